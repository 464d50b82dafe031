"""What rows of logits say of their targets, and the gradient of that (ARB-LOSS-001)."""

from typing import Any

import tilelang.language as T
import torch

from ...checks import check_tokens
from ...layout import row_major
from ..launch import kernel
from ..quantise.exponents import INFINITY_BITS, bits_of
from ..rows.fixed_point import THREADS, Arithmetic, largest_of_block, or_nan, sum_of_block
from .exponential import UNITS, largest_float, log2_of, octaves_of, take_largest, weight_of


@kernel
def cross_entropy_kernel(cuda: bool) -> Any:
    """losses [T] and dx [T, C] of x [T, C], a block a row; on the CPU one thread has the row."""
    rows, columns = T.dynamic("rows", "int64"), T.dynamic("columns", "int64")
    threads, exact = (THREADS, Arithmetic(True)) if cuda else (1, Arithmetic(False))

    @T.prim_func
    def cross_entropy(
        x: T.Tensor((rows, columns), "float32"),
        targets: T.Tensor((rows,), "int64"),
        losses: T.Tensor((rows,), "int64"),
        dx: T.Tensor((rows, columns), "float32"),
    ):
        with T.Kernel(rows, threads=threads) as row:
            cells, wide = T.alloc_shared((threads,), "int32"), T.alloc_shared((threads,), "int64")
            floats = T.alloc_shared((threads,), "float32")
            size, largest = T.alloc_var("int32", init=0), T.alloc_var("float32", init=0.0)
            d, total = T.alloc_var("float32", init=0.0), T.alloc_var("float32", init=0.0)
            column, octave, w, f, sums, right = (T.alloc_var("int64", init=0) for _ in range(6))
            for t in T.Parallel(threads):
                right = targets[row]
                if cuda:
                    T.device_assert((right >= 0) & (right < columns), no_stack_info=True)
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
                        if column == right:
                            d = exact.subtract(d, T.float32(1.0))
                    dx[row, column] = or_nan(size >= INFINITY_BITS, bits_of(d))
                    column = column + threads
                if t == 0:
                    if size < INFINITY_BITS:
                        d = exact.subtract(largest, x[row, right])
                        octaves_of(octave, d, exact)
                        log2_of(w, sums, f)
                        losses[row] = w - (30 << UNITS) + octave
                    else:
                        losses[row] = T.int64(-1)

    return cross_entropy


def cross_entropy(x: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x float32 [T, C], targets int64 [T] -> losses int64 [T] in octaves of 2^-20, dx float32 [T, C].

    Raises ValueError for a target outside 0..C-1; on CUDA the device asserts.
    """
    check_tokens(targets, x.shape[1], "targets")
    x, targets = row_major(x), row_major(targets)
    dx, losses = torch.empty_like(x), torch.empty_like(targets)
    cross_entropy_kernel(x.device)(x, targets, losses, dx)
    return losses, dx
