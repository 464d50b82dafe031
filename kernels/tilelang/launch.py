"""Compiling for a device and handing tensors over: what every launcher of this package needs.

A builder is a function `build(cuda, *switches)` that gives a TIR function. It is compiled once a target and
combination of switches; extents and numbers are arguments of the compiled kernel, so one serves all shapes.
CPU tensors run the target "c" (g++, exact), CUDA tensors the target "cuda" for sm_90a; both in one process.

Two defects of TileLang 0.1.15 shape the kernels. Its C code keeps an operand of T.max, T.min or T.reinterpret
in a temporary that it finds again by its text, so a variable assigned in between is read stale: maxima that
accumulate are written as `if`. And its simplifier runs for minutes on deep expressions and on branches that
depend on memory: what is used more than once goes through a variable, and rows are left out by selects.
"""

from __future__ import annotations

import functools
import logging
import shutil
from collections.abc import Callable
from typing import Any

import tilelang
import torch
from tilelang import tvm

from ..layout import row_major
from ..operations import INT32_MAX

THREADS = 128  # of the kernels that give each thread one item
LOW = 0xFFFFFFFF
CUDA_TARGET = {"kind": "cuda", "arch": "sm_90a"}
# the generated code reads floats as integers through pointers, and no product may be fused into a sum
CPU_FLAGS = ["-O3", "-fno-strict-aliasing", "-ffp-contract=off"]

logging.getLogger("tilelang.jit.kernel").setLevel(logging.WARNING)  # two lines a kernel otherwise


def compile_for(cuda: bool, build: Callable[..., Any], *switches: Any) -> Any:
    """The compiled kernel of a builder, from TileLang's cache on disk where it is there."""
    target: Any = CUDA_TARGET if cuda else "c"
    with tvm.target.Target(target):
        function = build(cuda, *switches)
        if cuda:
            return tilelang.compile(function, target=target, pass_configs=pass_configs(build))
        return tilelang.compile(
            function, target="c", target_host="c", execution_backend="cython", compile_flags=CPU_FLAGS
        )


def unchecked(build: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a builder whose CUDA kernel keeps every index inside its tensors itself: TileLang's own checks of
    each access are left out, which are 64-bit comparisons and branches."""
    build.unchecked = True  # type: ignore[attr-defined]
    return build


def pass_configs(build: Callable[..., Any]) -> dict[str, Any]:
    """How TileLang is to compile that builder's CUDA kernel."""
    return {"tl.disable_safe_memory_legalize": True} if getattr(build, "unchecked", False) else {}


def kernel(build: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a builder: `f(device, *switches)` gives its compiled kernel."""

    @functools.cache
    def compiled(cuda: bool, *switches: Any) -> Any:
        return compile_for(cuda, build, *switches)

    @functools.wraps(build)
    def get(device: torch.device, *switches: Any) -> Any:
        return compiled(device.type == "cuda", *switches)

    return get


def why_not() -> str | None:
    """Reason why no kernel can be compiled here, or None."""
    if torch.cuda.is_available() and not (shutil.which("nvcc") or _cuda_home()):
        return "nvcc is not found (TileLang compiles with it)"
    if not any(shutil.which(compiler) for compiler in ("g++", "clang++", "c++")):
        return "no C++ compiler is found (the CPU target needs one)"
    return None


def why_not_auto(device: str) -> str | None:
    """Reason why nobody who did not ask for it should get this backend on that type of device, or None."""
    return "on the CPU its kernels are scalar C, for checking" if device == "cpu" else None


def _cuda_home() -> str:
    from tilelang.env import CUDA_HOME

    return CUDA_HOME or ""


def split(number: int) -> tuple[int, int]:
    """A 64-bit number as two of 32 bits, low first: kernels take every number as int64."""
    return number & LOW, number >> 32


def padded(extent: int, multiple: int = 16) -> int:
    """The extent rounded up."""
    return -(-extent // multiple) * multiple


def k_major(matrix: torch.Tensor) -> torch.Tensor:
    """int8 [N, K] -> [N, K'] in C order, K' a multiple of 16 (what TMA needs) and zeros behind K.

    Copies nothing where the memory already is so.
    """
    rows, inner = matrix.shape
    matrix = matrix.detach()
    if matrix.is_contiguous() and inner % 16 == 0 and matrix.data_ptr() % 16 == 0:
        return row_major(matrix)
    copy = torch.zeros(rows, padded(inner), dtype=matrix.dtype, device=matrix.device)
    copy[:, :inner] = matrix
    return copy


def quads_of(x: torch.Tensor) -> torch.Tensor:
    """float32 [R, C] -> [R, ceil(C/4), 4], zeros behind C: what loads of 16 bytes need.

    Copies nothing where the memory already is so. Raises ValueError for extents that a kernel cannot count.
    """
    rows, columns = x.shape
    if max(rows, columns) > INT32_MAX:
        raise ValueError(
            f"x is {rows} x {columns}; TileLang's kernels count rows and columns in 32 bits, "
            f"at most {INT32_MAX}"
        )
    x = x.detach()
    if columns % 4:
        x = torch.nn.functional.pad(x, (0, -columns % 4))
    x = row_major(x)
    if x.data_ptr() % 16:
        x = x.clone()
    return x.view(rows, -1, 4)


def transposed_buffer(rows: int, columns: int, device: torch.device) -> torch.Tensor:
    """int8 [rows, columns] whose rows start at multiples of 16 bytes; what is behind a row may hold
    anything."""
    return torch.empty(rows, padded(columns), dtype=torch.int8, device=device)


class InPlace:
    """Arguments that a kernel writes: those that are not contiguous are worked on as copies.

    `with InPlace(codes, e) as (codes, e):` copies back at the end; gaps between elements are never written.
    """

    def __init__(self, *tensors: torch.Tensor) -> None:
        self.tensors = tensors
        self.copies = tuple(row_major(tensor) for tensor in tensors)

    def __enter__(self) -> tuple[torch.Tensor, ...]:
        return self.copies

    def __exit__(self, error: object, *_: object) -> None:
        if error is None:
            for tensor, copy in zip(self.tensors, self.copies, strict=True):
                if copy.data_ptr() != tensor.data_ptr():
                    tensor.copy_(copy)
