"""x over its root mean square (ARB-NORM-001)."""

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
    sum_of_block,
)


@kernel
@unchecked
def norm_kernel(cuda: bool) -> Any:
    """y [R, C] of x [R, C], a block a row; on the CPU one thread has the row."""
    rows, columns = T.dynamic("rows", "int64"), T.dynamic("columns", "int64")
    threads, exact = (THREADS, Arithmetic(True)) if cuda else (1, Arithmetic(False))

    @T.prim_func
    def norm(x: T.Tensor((rows, columns), "float32"), y: T.Tensor((rows, columns), "float32")):
        with T.Kernel(rows, threads=threads) as row:
            cells, wide = T.alloc_shared((threads,), "int32"), T.alloc_shared((threads,), "int64")
            largest, e = T.alloc_var("int32", init=0), T.alloc_var("int32", init=0)
            total, c = T.alloc_var("int64", init=0), T.alloc_var("int64", init=0)
            factor, found = T.alloc_var("float32", init=0.0), T.alloc_var("float32", init=0.0)
            column = T.alloc_var("int64", init=0)
            for t in T.Parallel(threads):
                column = T.Cast("int64", t)
                while column < columns:
                    size = magnitude(bits_of(x[row, column]))
                    if size > largest:
                        largest = size
                    column = column + threads
            largest_of_block(largest, cells, threads)
            for t in T.Parallel(threads):
                e = exponent_of(largest)
                column = T.Cast("int64", t)
                while column < columns:
                    c = T.Cast("int64", coarse(fine(x[row, column], e)))
                    total = total + c * c
                    column = column + threads
            sum_of_block(total, wide, threads)
            for t in T.Parallel(threads):
                factor = bound_of(e)
                if total > 0:
                    found = exact.norm_factor(total, columns)
                    if found < factor:
                        factor = found
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
