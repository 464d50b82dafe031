"""Probabilities of rows (ARB-SOFT-001)."""

from typing import Any

import tilelang.language as T
import torch

from ...layout import row_major
from ..launch import kernel, unchecked
from ..quantise.exponents import INFINITY_BITS, bits_of
from ..rows.fixed_point import or_nan, schedule
from .exponential import weigh_row, weight_below


@kernel
@unchecked
def softmax_kernel(cuda: bool) -> Any:
    """p [R, C] of x [R, C], a block a row."""
    rows, columns = T.dynamic("rows", "int64"), T.dynamic("columns", "int64")
    threads, exact = schedule(cuda)

    @T.prim_func
    def softmax(x: T.Tensor((rows, columns), "float32"), p: T.Tensor((rows, columns), "float32")):
        with T.Kernel(rows, threads=threads) as row:
            size, largest = T.alloc_var("int32", init=0), T.alloc_var("float32", init=0.0)
            d, total = T.alloc_var("float32", init=0.0), T.alloc_var("float32", init=0.0)
            column, octave, w, sums = (T.alloc_var("int64", init=0) for _ in range(4))
            weigh_row(size, largest, sums, x, row, columns, threads, exact)
            for t in T.Parallel(threads):
                total = T.Cast("float32", sums)
                column = T.Cast("int64", t)
                while column < columns:
                    if size < INFINITY_BITS:
                        weight_below(w, octave, largest, x[row, column], exact)
                        d = exact.divide(T.Cast("float32", w), total)
                    p[row, column] = or_nan(size >= INFINITY_BITS, bits_of(d))
                    column = column + threads

    return softmax


def softmax(x: torch.Tensor) -> torch.Tensor:
    """x float32 [R, C] -> p float32 [R, C]; NaN in rows that are not finite."""
    x = row_major(x)
    p = torch.empty_like(x)
    softmax_kernel(x.device)(x, p)
    return p
