"""Squares of differences, summed row by row (ARB-LOSS-003)."""

from operator import add
from typing import Any

import tilelang.language as T
import torch

from ...layout import row_major
from ..launch import kernel, unchecked
from ..quantise.exponents import INFINITY_BITS, bits_of, magnitude
from ..rows.fixed_point import over_block, schedule

MOST = 2.0**20
UNIT = 2.0**20


@kernel
@unchecked
def squared_error_kernel(cuda: bool) -> Any:
    """losses [R] of x and y [R, C], a block a row."""
    rows, columns = T.dynamic("rows", "int64"), T.dynamic("columns", "int64")
    threads, exact = schedule(cuda)

    @T.prim_func
    def squared_error(
        x: T.Tensor((rows, columns), "float32"),
        y: T.Tensor((rows, columns), "float32"),
        losses: T.Tensor((rows,), "int64"),
    ):
        with T.Kernel(rows, threads=threads) as row:
            cells, wide = T.alloc_shared((threads,), "int32"), T.alloc_shared((threads,), "int64")
            size, bits = T.alloc_var("int32", init=0), T.alloc_var("int32", init=0)
            column, total = T.alloc_var("int64", init=0), T.alloc_var("int64", init=0)
            d = T.alloc_var("float32", init=0.0)
            for t in T.Parallel(threads):
                column = T.Cast("int64", t)
                while column < columns:
                    d = exact.subtract(x[row, column], y[row, column])
                    bits = magnitude(bits_of(d))
                    if bits > size:
                        size = bits
                    if bits < INFINITY_BITS:
                        d = exact.multiply(d, d)
                        if d > T.float32(MOST):
                            d = T.float32(MOST)
                        total = total + T.Cast("int64", exact.multiply(d, T.float32(UNIT)))
                    column = column + threads
            over_block(size, cells, threads, T.max)
            over_block(total, wide, threads, add)
            for t in T.Parallel(threads):
                if t == 0:
                    if size < INFINITY_BITS:
                        losses[row] = total
                    else:
                        losses[row] = T.int64(-1)

    return squared_error


def squared_error(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """x and y float32 [R, C] -> losses int64 [R] in units of 2^-20; -1 of rows that are not finite."""
    x, y = row_major(x), row_major(y)
    losses = torch.empty(len(x), dtype=torch.int64, device=x.device)
    squared_error_kernel(x.device)(x, y, losses)
    return losses
