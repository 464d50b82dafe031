"""Products of rows, each summed (ARB-DOT-001)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...layout import row_major
from ..launch import require_device
from ..quantise.exponents import fraction
from .fixed_point import coarse, exponents_of, launch_rows, nan_where, row_sums, shifted, tile_of


@triton.jit(do_not_specialize=["rows"])
def dot_kernel(a, b, y, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """y [R], ROWS rows a program."""
    r = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    e_a, e_b = exponents_of(a, r, rows, columns, BLOCK), exponents_of(b, r, rows, columns, BLOCK)
    total = tl.zeros((ROWS,), tl.int64)
    for start in range(0, columns, BLOCK):
        left, _, _ = tile_of(a, r, start, rows, columns, BLOCK)
        right, _, _ = tile_of(b, r, start, rows, columns, BLOCK)
        total += row_sums(coarse(fraction(left, e_a[:, None])), coarse(fraction(right, e_b[:, None])))
    found = shifted(total.to(tl.float32), e_a + e_b - 16)
    tl.store(y + r, nan_where((e_a == 127) | (e_b == 127), found), mask=r < rows)


def dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a and b float32 [R, C] -> y float32 [R]; NaN of rows of which one is not finite."""
    require_device("dot", a)
    a, b = row_major(a), row_major(b)
    rows, columns = a.shape
    y = torch.empty(rows, dtype=torch.float32, device=a.device)
    launch_rows(dot_kernel, rows, columns, a, b, y, arrays_of_a_row=2)
    return y
