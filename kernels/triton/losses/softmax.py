"""Probabilities of rows (ARB-SOFT-001)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...layout import row_major
from ..launch import require_device
from ..rows.fixed_point import launch_rows, nan_where, tile_of
from .exponential import largest_of, row_octaves, totals_of, weight


@triton.jit(do_not_specialize=["rows"])
def softmax_kernel(x, p, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """p [R, C], ROWS rows a program; three passes over rows that are longer than BLOCK."""
    r = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    largest, poisoned = largest_of(x, r, rows, columns, BLOCK)
    total = totals_of(x, r, largest, poisoned, rows, columns, BLOCK).to(tl.float32)
    for start in range(0, columns, BLOCK):
        values, places, inside = tile_of(x, r, start, rows, columns, BLOCK)
        w = weight(row_octaves(tl.where(inside, values, largest[:, None]), largest, poisoned))
        found = tl.div_rn(w.to(tl.float32), tl.zeros_like(values) + total[:, None])
        tl.store(p + places, nan_where(poisoned[:, None], found), mask=inside)


def softmax(x: torch.Tensor) -> torch.Tensor:
    """x float32 [R, C] -> p float32 [R, C]; NaN in rows that are not finite."""
    require_device("softmax", x)
    x = row_major(x)
    rows, columns = x.shape
    p = torch.empty_like(x)
    launch_rows(softmax_kernel, rows, columns, x, p, arrays_of_a_row=4)
    return p
