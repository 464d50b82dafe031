"""What every launch needs on the host: a device that runs it, scalars that compile once, state in place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import triton
import triton.language as tl

from ..layout import row_major

INTERPRETED: bool = triton.knobs.runtime.interpret  # TRITON_INTERPRET=1, read where kernels are defined
ALIGNMENT = 16  # bytes
NOWHERE = 2**63 - 1
NO_DEVICE = "no CUDA device (TRITON_INTERPRET=1 runs the kernels on the CPU, slowly)"


def why_not() -> str | None:
    """Reason why this backend cannot run here, or None."""
    if not INTERPRETED:
        return None if torch.cuda.is_available() else NO_DEVICE
    return why_not_interpreted()


def why_not_interpreted() -> str | None:
    """Reason why Triton's interpreter cannot run here, or None."""
    # its loops take the int of an array of one element where their bound is an argument
    if _release(triton.__version__) < (3, 7) and _release(np.__version__) >= (2, 4):
        versions = f"the interpreter of Triton {triton.__version__} fails beside NumPy {np.__version__}"
        return f"{versions}: it needs Triton 3.7 or newer, or 'numpy<2.4'"
    return None


def _release(version: str) -> tuple[int, ...]:
    """Major and minor."""
    return tuple(int(part) for part in version.split(".")[:2])


def why_not_auto(device: str) -> str | None:
    """Reason why nobody who did not ask for it should get this backend on that type of device, or None."""
    if device == "cpu" or INTERPRETED:
        return "on the CPU it is Triton's interpreter, for checking"
    return None


def require_device(name: str, tensor: torch.Tensor) -> None:
    """Refuse arrays that no kernel can reach. Raises ValueError."""
    if not INTERPRETED and not tensor.is_cuda:
        raise ValueError(
            f"{name}: the triton backend needs arrays on a CUDA device, got {tensor.device}; "
            "TRITON_INTERPRET=1 runs the kernels on the CPU, slowly"
        )


def working_device(device: str | torch.device) -> torch.device:
    """Where a result for `device` is computed: on CUDA unless kernels are interpreted."""
    asked = torch.device(device)
    return asked if INTERPRETED or asked.type == "cuda" else torch.device("cuda")


def pick(compiled: int, interpreted: int) -> int:
    """A block size: the interpreter takes the same time for an operation on large blocks as on small ones."""
    return interpreted if INTERPRETED else compiled


def block_of(extent: int, smallest: int, largest: int) -> int:
    """The power of two that covers `extent`, within bounds."""
    power: int = triton.next_power_of_2(extent)
    return min(max(power, smallest), largest)


@triton.jit
def blocks(extent, SIZE: tl.constexpr):
    """Blocks of SIZE that an extent of at least 1 has. (`tl.cdiv` adds first, which 2^31 - 1 does not
    bear.)"""
    return (extent - 1) // SIZE + 1


def signed(value: int) -> int:
    """An integer of 0..2^32-1 with its bits kept in the range of int32: the type of every value alike."""
    return value - (value >> 31 << 32)


def random_key(seed: int, step: int, stream: int) -> tuple[int, int, int, int]:
    """step, stream, key low and key high as the jit functions of random_bits.py take them."""
    return signed(step), signed(stream), signed(seed & 0xFFFFFFFF), signed(seed >> 32)


def empty_rows(rows: int, columns: int, device: torch.device) -> torch.Tensor:
    """int8 [rows, columns] whose rows start at multiples of 16 bytes; what is between them is undefined."""
    return padded_rows(rows, columns, device)[:, :columns]


def padded_rows(rows: int, columns: int, device: torch.device) -> torch.Tensor:
    """int8 [rows, columns rounded up to a multiple of 16]."""
    width = -(-columns // ALIGNMENT) * ALIGNMENT
    return torch.empty(rows, width, dtype=torch.int8, device=device)


def new_cell(device: torch.device) -> torch.Tensor:
    """int64 [1] for the place of the first illegal element: kernels lower it by an atomic minimum."""
    return torch.full((1,), NOWHERE, dtype=torch.int64, device=device)


def first_illegal(cell: torch.Tensor) -> int | None:
    """The place that a cell got, if any. Waits for the device."""
    place = int(cell.item())
    return None if place == NOWHERE else place


@contextmanager
def in_place(*state: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Contiguous tensors to update: the state itself, or copies that are written back at the end."""
    work = tuple(row_major(tensor) for tensor in state)
    yield work
    for tensor, updated in zip(state, work, strict=True):
        if updated.data_ptr() != tensor.data_ptr():
            tensor.copy_(updated)


@contextmanager
def float_overflow() -> Iterator[None]:
    """Lets the interpreter's NumPy multiply to infinity, and NaNs, and divide by the zero of a row that is
    left out, without a warning: all are legal here (ARB-QUANT-010, ARB-NORM-001)."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        yield
