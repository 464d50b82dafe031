"""The gradient of `norm` (ARB-NORM-002)."""

from typing import Any

import tilelang.language as T
import torch

from ...layout import row_major
from ..launch import kernel, unchecked
from ..quantise.exponents import bits_of
from .fixed_point import (
    bound_of,
    exponent_of_row,
    factor_of_row,
    fine,
    is_poisoned,
    or_nan,
    products_of_row,
    schedule,
    shifted,
)


@kernel
@unchecked
def norm_backward_kernel(cuda: bool) -> Any:
    """dx [R, C] of dy and x [R, C], a block a row."""
    rows, columns = T.dynamic("rows", "int64"), T.dynamic("columns", "int64")
    threads, exact = schedule(cuda)

    @T.prim_func
    def norm_backward(
        dy: T.Tensor((rows, columns), "float32"),
        x: T.Tensor((rows, columns), "float32"),
        dx: T.Tensor((rows, columns), "float32"),
    ):
        with T.Kernel(rows, threads=threads) as row:
            cells, wide = T.alloc_shared((threads,), "int32"), T.alloc_shared((threads,), "int64")
            e, e_d, k, bits = (T.alloc_var("int32", init=0) for _ in range(4))
            total, along, column = (T.alloc_var("int64", init=0) for _ in range(3))
            factor, share, found = (T.alloc_var("float32", init=0.0) for _ in range(3))
            exponent_of_row(e, x, row, columns, cells, threads)
            exponent_of_row(e_d, dy, row, columns, cells, threads)
            products_of_row(total, x, e, x, e, row, columns, wide, threads)
            products_of_row(along, x, e, dy, e_d, row, columns, wide, threads)
            for t in T.Parallel(threads):
                factor_of_row(factor, total, e, columns, exact)
                if factor < bound_of(e):
                    share = exact.divide(T.Cast("float32", along), T.Cast("float32", total))
                k = e_d - e
                column = T.Cast("int64", t)
                while column < columns:
                    found = exact.multiply(T.Cast("float32", fine(x[row, column], e)), share)
                    found = exact.subtract(T.Cast("float32", fine(dy[row, column], e_d)), found)
                    found = exact.multiply(found, factor)
                    bits = bits_of(found)
                    dx[row, column] = or_nan(is_poisoned(e) | is_poisoned(e_d), shifted(bits, k))
                    column = column + threads

    return norm_backward


def norm_backward(dy: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """dy and x float32 [R, C] -> dx float32 [R, C]; NaN in rows of which one is not finite."""
    dy, x = row_major(dy), row_major(x)
    dx = torch.empty_like(x)
    norm_backward_kernel(x.device)(dy, x, dx)
    return dx
