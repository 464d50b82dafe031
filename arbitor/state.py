"""Legality of ternary state, checked where it enters (ARB-STATE-003, -004, -006)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from arbitor.kernels import registry

DTYPE_NAMES = {
    torch.uint8: "uint8",
    torch.int8: "int8",
    torch.int16: "int16",
    torch.int32: "int32",
    torch.int64: "int64",
}


# the integers of a tensor, in the order of its extra state (ARB-STATE-003, -005, -008)
NUMBERS = {
    "e_base": (-26, 26),
    "e_span": (0, 6),
    "group_size": (4, 1024),
    "tensor_id": (0, 2**28 - 1),
    "updates": (0, 2**32 - 1),
    "seed low": (0, 2**32 - 1),
    "seed high": (0, 2**32 - 1),
}


@dataclass(frozen=True)
class TernaryShape:
    """What fixes the extents of one ternary matrix [rows, columns] and the band of its exponents."""

    rows: int
    columns: int
    group_size: int
    e_base: int
    e_span: int

    @property
    def groups(self) -> int:
        """Groups a row, the last one may be short."""
        return -(-self.columns // self.group_size)


def _ranges(shape: TernaryShape) -> dict[str, tuple[torch.dtype, tuple[int, ...], int, int]]:
    """name -> dtype, shape, lowest, highest; codes are checked by unpacking."""
    groups = (shape.rows, shape.groups)
    return {
        "codes": (torch.uint8, (shape.rows, -(-shape.columns // 4)), 0, 255),
        "t_accum": (torch.int8, (shape.rows, shape.columns), -127, 127),
        "e": (torch.int8, groups, shape.e_base, shape.e_base + shape.e_span),
        "e_accum": (torch.int8, groups, -127, 127),
        "moment": (torch.int32, groups, 0, 2**31 - 1),
        "corr_accum": (torch.int16, groups, -32767, 32767),
        "step_counter": (torch.int32, (shape.rows,), 0, 2**31 - 1),
    }


def read_numbers(owner: str, tensor: torch.Tensor) -> dict[str, int]:
    """The integers of the module `owner` by name, from its extra state int64 [7].

    Raises TypeError for a dtype, ValueError for a shape or a value out of range.
    """
    if tensor.dtype != torch.int64:
        raise TypeError(f"{owner}: extra state must be int64, got {tensor.dtype}")
    if tensor.shape != (len(NUMBERS),):
        raise ValueError(f"{owner}: extra state must have shape (7,), got {tuple(tensor.shape)}")
    _refuse_meta(f"{owner}: extra state", tensor)
    values = dict(zip(NUMBERS, tensor.tolist(), strict=True))
    for name, (lowest, highest) in NUMBERS.items():
        if not lowest <= values[name] <= highest:
            raise ValueError(f"{owner}: {name} must be in {lowest}..{highest}, got {values[name]}")
    if values["group_size"] % 4:
        raise ValueError(f"{owner}: group_size must be a multiple of 4, got {values['group_size']}")
    return values


def check_octaves(value: Any) -> None:
    """Refuse what is no integer (TypeError), or more than any band has room for (ValueError)."""
    if type(value) is not int:
        raise TypeError(f"octaves must be an int, got {type(value).__name__}")
    if not -20 <= value <= 20:
        raise ValueError(f"octaves must be in -20..20, got {value}")


def _refuse_meta(name: str, tensor: torch.Tensor) -> None:
    """Where a model was made without elements, each of its tensors has to be brought. Raises ValueError."""
    if tensor.is_meta:
        raise ValueError(f"{name} is on the device meta: it has no elements, expected a tensor with some")


def first_place(mask: torch.Tensor) -> list[int] | None:
    """Where a bool tensor is first true, in C order, or None: a byte an element, where all places at once
    would take 8 an axis."""
    if not bool(mask.any()):
        return None
    first = mask.flatten().to(torch.uint8).argmax()
    return [int(index) for index in torch.unravel_index(first, mask.shape)]


def check_state(owner: str, tensors: Mapping[str, torch.Tensor], shape: TernaryShape) -> None:
    """Refuse illegal state tensors of the module `owner` before anything is changed.

    Raises TypeError for a dtype, ValueError for a shape, a value out of range, code 3 or illegal padding.
    """
    ranges = _ranges(shape)
    for name, tensor in tensors.items():
        dtype, extents, lowest, highest = ranges[name]
        if tensor.dtype != dtype:
            found = DTYPE_NAMES.get(tensor.dtype, str(tensor.dtype).removeprefix("torch."))
            raise TypeError(f"{owner}.{name} must be {DTYPE_NAMES[dtype]}, got {found}")
        if tuple(tensor.shape) != extents:
            raise ValueError(f"{owner}.{name} must have shape {extents}, got {tuple(tensor.shape)}")
        _refuse_meta(f"{owner}.{name}", tensor)
        place = first_place((tensor < lowest) | (tensor > highest))
        if place is not None:
            raise ValueError(
                f"{owner}.{name}{place} = {tensor[tuple(place)].item()}, expected {lowest}..{highest}"
            )
    if "codes" in tensors:
        try:
            registry.select("torch").unpack(tensors["codes"], columns=shape.columns)
        except ValueError as error:
            raise ValueError(f"{owner}.{error}") from None
