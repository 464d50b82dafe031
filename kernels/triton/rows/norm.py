"""x over its root mean square (ARB-NORM-001)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...layout import row_major
from ..launch import require_device
from ..quantise.exponents import fraction
from .fixed_point import coarse, exponents_of, launch_rows, nan_where, norm_factor, row_sums, tile_of


@triton.jit(do_not_specialize=["rows"])
def norm_kernel(x, y, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """y [R, C], ROWS rows a program; three passes over rows that are longer than BLOCK."""
    r = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    e = exponents_of(x, r, rows, columns, BLOCK)
    total = tl.zeros((ROWS,), tl.int64)
    for start in range(0, columns, BLOCK):
        values, _, _ = tile_of(x, r, start, rows, columns, BLOCK)
        c = coarse(fraction(values, e[:, None]))
        total += row_sums(c, c)
    factor, _ = norm_factor(total, e, columns)
    for start in range(0, columns, BLOCK):
        values, places, inside = tile_of(x, r, start, rows, columns, BLOCK)
        found = fraction(values, e[:, None]).to(tl.float32) * factor[:, None]
        tl.store(y + places, nan_where((e == 127)[:, None], found), mask=inside)


def norm(x: torch.Tensor) -> torch.Tensor:
    """x float32 [R, C] -> y float32 [R, C]; NaN in rows that are not finite."""
    require_device("norm", x)
    x = row_major(x)
    rows, columns = x.shape
    y = torch.empty_like(x)
    launch_rows(norm_kernel, rows, columns, x, y)
    return y
