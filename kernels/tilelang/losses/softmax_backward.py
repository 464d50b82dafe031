"""The gradient of `softmax` (ARB-SOFT-002)."""

from typing import Any

import tilelang.language as T
import torch

from ...layout import row_major
from ..launch import kernel, unchecked
from ..quantise.exponents import bits_of, power_of_two
from ..rows.fixed_point import (
    exponent_of_row,
    fine,
    is_poisoned,
    or_nan,
    products_of_row,
    schedule,
    shifted,
)

MOST = -6  # the exponent of a row of probabilities


@kernel
@unchecked
def softmax_backward_kernel(cuda: bool) -> Any:
    """dx [R, C] of dp and p [R, C], a block a row."""
    rows, columns = T.dynamic("rows", "int64"), T.dynamic("columns", "int64")
    threads, exact = schedule(cuda)

    @T.prim_func
    def softmax_backward(
        dp: T.Tensor((rows, columns), "float32"),
        p: T.Tensor((rows, columns), "float32"),
        dx: T.Tensor((rows, columns), "float32"),
    ):
        with T.Kernel(rows, threads=threads) as row:
            cells, wide = T.alloc_shared((threads,), "int32"), T.alloc_shared((threads,), "int64")
            e_d, e_p, bits, k = (T.alloc_var("int32", init=0) for _ in range(4))
            total, column = T.alloc_var("int64", init=0), T.alloc_var("int64", init=0)
            mean, found = T.alloc_var("float32", init=0.0), T.alloc_var("float32", init=0.0)
            exponent_of_row(e_p, p, row, columns, cells, threads)
            exponent_of_row(e_d, dp, row, columns, cells, threads)
            products_of_row(total, p, e_p, dp, e_d, row, columns, wide, threads)
            for t in T.Parallel(threads):
                k = e_p
                if k > MOST:
                    k = MOST
                mean = exact.multiply(T.Cast("float32", total), power_of_two(k))
                k = e_d + e_p - 32
                column = T.Cast("int64", t)
                while column < columns:
                    found = exact.subtract(T.Cast("float32", fine(dp[row, column], e_d)), mean)
                    found = exact.multiply(found, T.Cast("float32", fine(p[row, column], e_p)))
                    bits = bits_of(found)
                    dx[row, column] = or_nan(is_poisoned(e_d) | (e_p > MOST), shifted(bits, k))
                    column = column + threads

    return softmax_backward


def softmax_backward(dp: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """dp and p float32 [R, C] -> dx float32 [R, C]; NaN in rows of which one is not finite, or p no row of
    probabilities."""
    dp, p = row_major(dp), row_major(p)
    dx = torch.empty_like(p)
    softmax_backward_kernel(p.device)(dp, p, dx)
    return dx
