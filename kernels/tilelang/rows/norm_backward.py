"""The gradient of `norm` (ARB-NORM-002)."""

from typing import Any

import tilelang.language as T
import torch

from ...layout import row_major
from ..launch import kernel, unchecked
from ..quantise.exponents import bits_of, exponent_of, magnitude
from .fixed_point import (
    THREADS,
    Arithmetic,
    bound_of,
    coarse,
    fine,
    is_poisoned,
    largest_of_block,
    or_nan,
    shifted,
    sum_of_block,
)


@kernel
@unchecked
def norm_backward_kernel(cuda: bool) -> Any:
    """dx [R, C] of dy and x [R, C], a block a row; on the CPU one thread has the row."""
    rows, columns = T.dynamic("rows", "int64"), T.dynamic("columns", "int64")
    threads, exact = (THREADS, Arithmetic(True)) if cuda else (1, Arithmetic(False))

    @T.prim_func
    def norm_backward(
        dy: T.Tensor((rows, columns), "float32"),
        x: T.Tensor((rows, columns), "float32"),
        dx: T.Tensor((rows, columns), "float32"),
    ):
        with T.Kernel(rows, threads=threads) as row:
            cells, wide = T.alloc_shared((threads,), "int32"), T.alloc_shared((threads,), "int64")
            largest, other = T.alloc_var("int32", init=0), T.alloc_var("int32", init=0)
            e, e_d, k = (T.alloc_var("int32", init=0) for _ in range(3))
            total, along, c = (T.alloc_var("int64", init=0) for _ in range(3))
            factor, share, found = (T.alloc_var("float32", init=0.0) for _ in range(3))
            column, bits = T.alloc_var("int64", init=0), T.alloc_var("int32", init=0)
            for t in T.Parallel(threads):
                column = T.Cast("int64", t)
                while column < columns:
                    size = magnitude(bits_of(x[row, column]))
                    if size > largest:
                        largest = size
                    change = magnitude(bits_of(dy[row, column]))
                    if change > other:
                        other = change
                    column = column + threads
            largest_of_block(largest, cells, threads)
            largest_of_block(other, cells, threads)
            for t in T.Parallel(threads):
                e = exponent_of(largest)
                e_d = exponent_of(other)
                column = T.Cast("int64", t)
                while column < columns:
                    c = T.Cast("int64", coarse(fine(x[row, column], e)))
                    total = total + c * c
                    along = along + c * T.Cast("int64", coarse(fine(dy[row, column], e_d)))
                    column = column + threads
            sum_of_block(total, wide, threads)
            sum_of_block(along, wide, threads)
            for t in T.Parallel(threads):
                factor = bound_of(e)
                k = e_d - e
                if total > 0:
                    found = exact.norm_factor(total, columns)
                    if found < factor:
                        factor = found
                        share = exact.divide(T.Cast("float32", along), T.Cast("float32", total))
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
