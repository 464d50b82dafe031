"""Products of rows, each summed (ARB-DOT-001)."""

from typing import Any

import tilelang.language as T
import torch

from ...layout import row_major
from ..launch import kernel, unchecked
from ..quantise.exponents import bits_of
from .fixed_point import exponent_of_row, is_poisoned, or_nan, products_of_row, schedule, shifted


@kernel
@unchecked
def dot_kernel(cuda: bool) -> Any:
    """y [R] of a and b [R, C], a block a row."""
    rows, columns = T.dynamic("rows", "int64"), T.dynamic("columns", "int64")
    threads, _ = schedule(cuda)

    @T.prim_func
    def dot(
        a: T.Tensor((rows, columns), "float32"),
        b: T.Tensor((rows, columns), "float32"),
        y: T.Tensor((rows,), "float32"),
    ):
        with T.Kernel(rows, threads=threads) as row:
            cells, wide = T.alloc_shared((threads,), "int32"), T.alloc_shared((threads,), "int64")
            e_a, e_b, bits, k = (T.alloc_var("int32", init=0) for _ in range(4))
            total = T.alloc_var("int64", init=0)
            exponent_of_row(e_a, a, row, columns, cells, threads)
            exponent_of_row(e_b, b, row, columns, cells, threads)
            products_of_row(total, a, e_a, b, e_b, row, columns, wide, threads)
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
