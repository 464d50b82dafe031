"""x over its root mean square (ARB-NORM-001)."""

from typing import Any

import tilelang.language as T
import torch

from ...layout import row_major
from ..launch import kernel, unchecked
from ..quantise.exponents import bits_of
from .fixed_point import exponent_of_row, factor_of_row, fine, is_poisoned, or_nan, products_of_row, schedule


@kernel
@unchecked
def norm_kernel(cuda: bool) -> Any:
    """y [R, C] of x [R, C], a block a row."""
    rows, columns = T.dynamic("rows", "int64"), T.dynamic("columns", "int64")
    threads, exact = schedule(cuda)

    @T.prim_func
    def norm(x: T.Tensor((rows, columns), "float32"), y: T.Tensor((rows, columns), "float32")):
        with T.Kernel(rows, threads=threads) as row:
            cells, wide = T.alloc_shared((threads,), "int32"), T.alloc_shared((threads,), "int64")
            e, total = T.alloc_var("int32", init=0), T.alloc_var("int64", init=0)
            factor, found = T.alloc_var("float32", init=0.0), T.alloc_var("float32", init=0.0)
            column = T.alloc_var("int64", init=0)
            exponent_of_row(e, x, row, columns, cells, threads)
            products_of_row(total, x, e, x, e, row, columns, wide, threads)
            for t in T.Parallel(threads):
                factor_of_row(factor, total, e, columns, exact)
                column = T.Cast("int64", t)
                while column < columns:
                    found = exact.multiply(T.Cast("float32", fine(x[row, column], e)), factor)
                    y[row, column] = or_nan(is_poisoned(e), bits_of(found))
                    column = column + threads

    return norm


def norm(x: torch.Tensor) -> torch.Tensor:
    """x float32 [R, C] -> y float32 [R, C]; NaN in rows that are not finite."""
    x = row_major(x)
    y = torch.empty_like(x)
    norm_kernel(x.device)(x, y)
    return y
