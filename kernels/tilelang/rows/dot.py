"""Products of rows, each summed (ARB-DOT-001)."""

from typing import Any

import tilelang.language as T
import torch

from ...layout import row_major
from ..launch import kernel, unchecked
from ..quantise.exponents import bits_of, exponent_of, magnitude
from .fixed_point import THREADS, coarse, fine, is_poisoned, largest_of_block, or_nan, shifted, sum_of_block


@kernel
@unchecked
def dot_kernel(cuda: bool) -> Any:
    """y [R] of a and b [R, C], a block a row; on the CPU one thread has the row."""
    rows, columns = T.dynamic("rows", "int64"), T.dynamic("columns", "int64")
    threads = THREADS if cuda else 1

    @T.prim_func
    def dot(
        a: T.Tensor((rows, columns), "float32"),
        b: T.Tensor((rows, columns), "float32"),
        y: T.Tensor((rows,), "float32"),
    ):
        with T.Kernel(rows, threads=threads) as row:
            cells, wide = T.alloc_shared((threads,), "int32"), T.alloc_shared((threads,), "int64")
            largest, other = T.alloc_var("int32", init=0), T.alloc_var("int32", init=0)
            e_a, e_b, bits, k = (T.alloc_var("int32", init=0) for _ in range(4))
            total, c, column = (T.alloc_var("int64", init=0) for _ in range(3))
            for t in T.Parallel(threads):
                column = T.Cast("int64", t)
                while column < columns:
                    size = magnitude(bits_of(a[row, column]))
                    if size > largest:
                        largest = size
                    size_b = magnitude(bits_of(b[row, column]))
                    if size_b > other:
                        other = size_b
                    column = column + threads
            largest_of_block(largest, cells, threads)
            largest_of_block(other, cells, threads)
            for t in T.Parallel(threads):
                e_a = exponent_of(largest)
                e_b = exponent_of(other)
                column = T.Cast("int64", t)
                while column < columns:
                    c = T.Cast("int64", coarse(fine(a[row, column], e_a)))
                    total = total + c * T.Cast("int64", coarse(fine(b[row, column], e_b)))
                    column = column + threads
            sum_of_block(total, wide, threads)
            for t in T.Parallel(threads):
                if t == 0:
                    bits = bits_of(T.Cast("float32", total))
                    k = e_a + e_b - 16
                    y[row] = or_nan(is_poisoned(e_a) | is_poisoned(e_b), shifted(bits, k))

    return dot


def dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a and b float32 [R, C] -> y float32 [R]; NaN of rows of which one is not finite."""
    a, b = row_major(a), row_major(b)
    y = torch.empty(len(a), dtype=torch.float32, device=a.device)
    dot_kernel(a.device)(a, b, y)
    return y
