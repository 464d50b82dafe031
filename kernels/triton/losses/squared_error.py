"""Squares of differences, summed row by row (ARB-LOSS-003)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...layout import row_major
from ..launch import require_device
from ..quantise.exponents import magnitude
from ..rows.fixed_point import launch_rows, tile_of


@triton.jit(do_not_specialize=["rows"])
def squared_error_kernel(x, y, losses, rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """losses [R], ROWS rows a program."""
    r = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    total, wrong = tl.zeros((ROWS,), tl.int64), tl.zeros((ROWS,), tl.int32)
    for start in range(0, columns, BLOCK):
        left, _, _ = tile_of(x, r, start, rows, columns, BLOCK)
        right, _, _ = tile_of(y, r, start, rows, columns, BLOCK)
        d = left - right
        bits = magnitude(d)
        wrong = tl.maximum(wrong, tl.max((bits >= 0x7F800000).to(tl.int32), axis=1))
        size = tl.where(bits < 0x7F800000, d, 0.0)
        square = size * size
        units = tl.where(square < 1048576.0, square, 1048576.0) * 1048576.0
        total += tl.sum(units.to(tl.int64), axis=1)
    tl.store(losses + r, tl.where(wrong > 0, -1, total), mask=r < rows)


def squared_error(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """x and y float32 [R, C] -> losses int64 [R] in units of 2^-20; -1 of rows that are not finite."""
    require_device("squared_error", x)
    x, y = row_major(x), row_major(y)
    rows, columns = x.shape
    losses = torch.empty(rows, dtype=torch.int64, device=x.device)
    launch_rows(squared_error_kernel, rows, columns, x, y, losses, arrays_of_a_row=2)
    return losses
