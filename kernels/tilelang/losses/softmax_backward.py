"""The gradient of `softmax` (ARB-SOFT-002)."""

from typing import Any

import tilelang.language as T
import torch

from ...layout import row_major
from ..launch import kernel, unchecked
from ..quantise.exponents import bits_of, exponent_of, magnitude, power_of_two
from ..rows.fixed_point import (
    THREADS,
    Arithmetic,
    coarse,
    fine,
    is_poisoned,
    largest_of_block,
    or_nan,
    shifted,
    sum_of_block,
)

MOST = -6  # the exponent of a row of probabilities


@kernel
@unchecked
def softmax_backward_kernel(cuda: bool) -> Any:
    """dx [R, C] of dp and p [R, C], a block a row; on the CPU one thread has the row."""
    rows, columns = T.dynamic("rows", "int64"), T.dynamic("columns", "int64")
    threads, exact = (THREADS, Arithmetic(True)) if cuda else (1, Arithmetic(False))

    @T.prim_func
    def softmax_backward(
        dp: T.Tensor((rows, columns), "float32"),
        p: T.Tensor((rows, columns), "float32"),
        dx: T.Tensor((rows, columns), "float32"),
    ):
        with T.Kernel(rows, threads=threads) as row:
            cells, wide = T.alloc_shared((threads,), "int32"), T.alloc_shared((threads,), "int64")
            largest, other = T.alloc_var("int32", init=0), T.alloc_var("int32", init=0)
            e_d, e_p, bits, k = (T.alloc_var("int32", init=0) for _ in range(4))
            total, c, column = (T.alloc_var("int64", init=0) for _ in range(3))
            mean, found = T.alloc_var("float32", init=0.0), T.alloc_var("float32", init=0.0)
            for t in T.Parallel(threads):
                column = T.Cast("int64", t)
                while column < columns:
                    size = magnitude(bits_of(p[row, column]))
                    if size > largest:
                        largest = size
                    change = magnitude(bits_of(dp[row, column]))
                    if change > other:
                        other = change
                    column = column + threads
            largest_of_block(largest, cells, threads)
            largest_of_block(other, cells, threads)
            for t in T.Parallel(threads):
                e_p = exponent_of(largest)
                e_d = exponent_of(other)
                column = T.Cast("int64", t)
                while column < columns:
                    c = T.Cast("int64", coarse(fine(p[row, column], e_p)))
                    total = total + c * T.Cast("int64", coarse(fine(dp[row, column], e_d)))
                    column = column + threads
            sum_of_block(total, wide, threads)
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
