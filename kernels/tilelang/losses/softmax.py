"""Probabilities of rows (ARB-SOFT-001)."""

from typing import Any

import tilelang.language as T
import torch

from ...layout import row_major
from ..launch import kernel, unchecked
from ..quantise.exponents import INFINITY_BITS, bits_of
from ..rows.fixed_point import THREADS, Arithmetic, largest_of_block, or_nan, sum_of_block
from .exponential import largest_float, octaves_of, take_largest, weight_of


@kernel
@unchecked
def softmax_kernel(cuda: bool) -> Any:
    """p [R, C] of x [R, C], a block a row; on the CPU one thread has the row."""
    rows, columns = T.dynamic("rows", "int64"), T.dynamic("columns", "int64")
    threads, exact = (THREADS, Arithmetic(True)) if cuda else (1, Arithmetic(False))

    @T.prim_func
    def softmax(x: T.Tensor((rows, columns), "float32"), p: T.Tensor((rows, columns), "float32")):
        with T.Kernel(rows, threads=threads) as row:
            cells, wide = T.alloc_shared((threads,), "int32"), T.alloc_shared((threads,), "int64")
            floats = T.alloc_shared((threads,), "float32")
            size, largest = T.alloc_var("int32", init=0), T.alloc_var("float32", init=0.0)
            d, total = T.alloc_var("float32", init=0.0), T.alloc_var("float32", init=0.0)
            column, octave, w, f, sums = (T.alloc_var("int64", init=0) for _ in range(5))
            for t in T.Parallel(threads):
                largest = x[row, 0]
                column = T.Cast("int64", t)
                while column < columns:
                    take_largest(largest, size, x[row, column])
                    column = column + threads
            largest_of_block(size, cells, threads)
            largest_float(largest, floats, threads)
            for t in T.Parallel(threads):
                if size < INFINITY_BITS:
                    column = T.Cast("int64", t)
                    while column < columns:
                        d = exact.subtract(largest, x[row, column])
                        octaves_of(octave, d, exact)
                        weight_of(w, octave, f)
                        sums = sums + w
                        column = column + threads
            sum_of_block(sums, wide, threads)
            for t in T.Parallel(threads):
                total = T.Cast("float32", sums)
                column = T.Cast("int64", t)
                while column < columns:
                    if size < INFINITY_BITS:
                        d = exact.subtract(largest, x[row, column])
                        octaves_of(octave, d, exact)
                        weight_of(w, octave, f)
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
