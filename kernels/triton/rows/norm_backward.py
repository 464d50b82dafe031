"""The gradient of `norm` (ARB-NORM-002)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...layout import row_major
from ..launch import require_device
from ..quantise.exponents import fraction
from .fixed_point import (
    coarse,
    exponents_of,
    launch_rows,
    nan_where,
    norm_factor,
    row_sums,
    shifted,
    tile_of,
)


@triton.jit(do_not_specialize=["rows"])
def norm_backward_kernel(dy, x, dx, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """dx [R, C], ROWS rows a program; three passes over rows that are longer than BLOCK."""
    r = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    e, e_d = exponents_of(x, r, rows, columns, BLOCK), exponents_of(dy, r, rows, columns, BLOCK)
    total, along = tl.zeros((ROWS,), tl.int64), tl.zeros((ROWS,), tl.int64)
    for start in range(0, columns, BLOCK):
        values, _, _ = tile_of(x, r, start, rows, columns, BLOCK)
        change, _, _ = tile_of(dy, r, start, rows, columns, BLOCK)
        c = coarse(fraction(values, e[:, None]))
        total += row_sums(c, c)
        along += row_sums(c, coarse(fraction(change, e_d[:, None])))
    factor, bound = norm_factor(total, e, columns)
    share = tl.where(factor == bound, 0.0, tl.div_rn(along.to(tl.float32), total.to(tl.float32)))
    for start in range(0, columns, BLOCK):
        values, _, _ = tile_of(x, r, start, rows, columns, BLOCK)
        change, places, inside = tile_of(dy, r, start, rows, columns, BLOCK)
        f, f_d = fraction(values, e[:, None]), fraction(change, e_d[:, None])
        v = (f_d.to(tl.float32) - f.to(tl.float32) * share[:, None]) * factor[:, None]
        found = nan_where(((e == 127) | (e_d == 127))[:, None], shifted(v, (e_d - e)[:, None]))
        tl.store(dx + places, found, mask=inside)


def norm_backward(dy: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """dy and x float32 [R, C] -> dx float32 [R, C]; NaN in rows of which one is not finite."""
    require_device("norm_backward", x)
    dy, x = row_major(dy), row_major(x)
    rows, columns = x.shape
    dx = torch.empty_like(x)
    launch_rows(norm_backward_kernel, rows, columns, dy, x, dx, arrays_of_a_row=2)
    return dx
