"""What rows of logits say of their targets, and the gradient of that (ARB-LOSS-001)."""

from typing import Any

import tilelang.language as T
import torch

from ...checks import check_tokens
from ...layout import row_major
from ..launch import kernel
from ..quantise.exponents import INFINITY_BITS, bits_of
from ..rows.fixed_point import or_nan, schedule
from .exponential import UNITS, log2_of, weigh_row, weight_below


@kernel
def cross_entropy_kernel(cuda: bool) -> Any:
    """losses [T] and dx [T, C] of x [T, C], a block a row."""
    rows, columns = T.dynamic("rows", "int64"), T.dynamic("columns", "int64")
    threads, exact = schedule(cuda)

    @T.prim_func
    def cross_entropy(
        x: T.Tensor((rows, columns), "float32"),
        targets: T.Tensor((rows,), "int64"),
        losses: T.Tensor((rows,), "int64"),
        dx: T.Tensor((rows, columns), "float32"),
    ):
        with T.Kernel(rows, threads=threads) as row:
            size, largest = T.alloc_var("int32", init=0), T.alloc_var("float32", init=0.0)
            d, total = T.alloc_var("float32", init=0.0), T.alloc_var("float32", init=0.0)
            column, octave, w, f, sums, right = (T.alloc_var("int64", init=0) for _ in range(6))
            for _t in T.Parallel(threads):
                right = targets[row]
                if cuda:
                    T.device_assert((right >= 0) & (right < columns), no_stack_info=True)
            weigh_row(size, largest, sums, x, row, columns, threads, exact)
            for t in T.Parallel(threads):
                total = T.Cast("float32", sums)
                column = T.Cast("int64", t)
                while column < columns:
                    if size < INFINITY_BITS:
                        weight_below(w, octave, largest, x[row, column], exact)
                        d = exact.divide(T.Cast("float32", w), total)
                        if column == right:
                            d = exact.subtract(d, T.float32(1.0))
                    dx[row, column] = or_nan(size >= INFINITY_BITS, bits_of(d))
                    column = column + threads
                if t == 0:
                    if size < INFINITY_BITS:
                        weight_below(w, octave, largest, x[row, right], exact)
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
