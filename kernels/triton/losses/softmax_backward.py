"""The gradient of `softmax` (ARB-SOFT-002)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...layout import row_major
from ..launch import require_device
from ..quantise.exponents import fraction, power_of_two
from ..rows.fixed_point import (
    coarse,
    exponents_of,
    launch_rows,
    nan_where,
    row_sums,
    shifted,
    tile_of,
)


@triton.jit(do_not_specialize=["rows"])
def softmax_backward_kernel(dp, p, dx, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """dx [R, C], ROWS rows a program; three passes over rows that are longer than BLOCK."""
    r = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    e_d, e_p = exponents_of(dp, r, rows, columns, BLOCK), exponents_of(p, r, rows, columns, BLOCK)
    total = tl.zeros((ROWS,), tl.int64)
    for start in range(0, columns, BLOCK):
        change, _, _ = tile_of(dp, r, start, rows, columns, BLOCK)
        share, _, _ = tile_of(p, r, start, rows, columns, BLOCK)
        total += row_sums(coarse(fraction(share, e_p[:, None])), coarse(fraction(change, e_d[:, None])))
    mean = total.to(tl.float32) * power_of_two(tl.minimum(e_p, -6))
    poisoned = (e_d == 127) | (e_p > -6)
    for start in range(0, columns, BLOCK):
        change, places, inside = tile_of(dp, r, start, rows, columns, BLOCK)
        share, _, _ = tile_of(p, r, start, rows, columns, BLOCK)
        f_d, f_p = fraction(change, e_d[:, None]), fraction(share, e_p[:, None])
        v = (f_d.to(tl.float32) - mean[:, None]) * f_p.to(tl.float32)
        found = nan_where(poisoned[:, None], shifted(v, (e_d + e_p - 32)[:, None]))
        tl.store(dx + places, found, mask=inside)


def softmax_backward(dp: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """dp and p float32 [R, C] -> dx float32 [R, C]; NaN in rows of which one is not finite, or p no row of
    probabilities."""
    require_device("softmax_backward", dp)
    dp, p = row_major(dp), row_major(p)
    rows, columns = dp.shape
    dx = torch.empty_like(dp)
    launch_rows(softmax_backward_kernel, rows, columns, dp, p, dx, arrays_of_a_row=2)
    return dx
