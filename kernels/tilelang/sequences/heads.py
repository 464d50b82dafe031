"""Queries, keys and values of heads: normalised, rotated, in int8 (ARB-HEAD-001 to -004)."""

from typing import Any

import tilelang.language as T
import torch

from ...heads import POISON
from ...layout import row_major
from ..launch import kernel, unchecked
from ..rows.fixed_point import (
    Arithmetic,
    exponent_of_row,
    factor_of_row,
    fine,
    is_poisoned,
    products_of_row,
    schedule,
)
from .slices import kappa_bits, times_2_to_minus_14, turn


@T.macro
def round_to(whole: T.Ref, y: T.Ref, exact: Arithmetic) -> None:
    """whole int32: units of 2^-5, to nearest, within 127 (ARB-HEAD-003)."""
    whole = (T.Cast("int32", exact.multiply(y, T.float32(2.0**21))) + 32768) >> 16
    if whole > 127:
        whole = T.int32(127)
    if whole < -127:
        whole = T.int32(-127)


@kernel
@unchecked
def heads_kernel(cuda: bool) -> Any:
    """q [slices, 2 H] of x [slices, 2 H], slices of queries, keys and values in turn; a block a slice."""
    slices, columns = T.dynamic("slices", "int64"), T.dynamic("columns", "int64")
    positions, half = T.dynamic("positions", "int64"), T.dynamic("half", "int64")
    threads, exact = schedule(cuda)

    @T.prim_func
    def heads(
        x: T.Tensor((slices, columns), "float32"),
        cos: T.Tensor((positions, half), "int16"),
        sin: T.Tensor((positions, half), "int16"),
        q: T.Tensor((slices, columns), "int8"),
        number: T.int64,
        kappa: T.int32,
    ):
        with T.Kernel(slices, threads=threads) as row:
            cells, wide = T.alloc_shared((threads,), "int32"), T.alloc_shared((threads,), "int64")
            e, first, second = (T.alloc_var("int32", init=0) for _ in range(3))
            total, column = T.alloc_var("int64", init=0), T.alloc_var("int64", init=0)
            part, place = T.alloc_var("int64", init=0), T.alloc_var("int64", init=0)
            factor, y, z, c, s, scale = (T.alloc_var("float32", init=0.0) for _ in range(6))
            exponent_of_row(e, x, row, columns, cells, threads)
            products_of_row(total, x, e, x, e, row, columns, wide, threads)
            for t in T.Parallel(threads):
                factor_of_row(factor, total, e, columns, exact)
                part = T.Cast("int64", row) // number % 3
                place = T.Cast("int64", row) // (number * 3) % positions
                scale = T.float32(1.0)
                if part == 0:
                    scale = T.reinterpret(kappa, "float32")
                column = T.Cast("int64", t)
                while column < half:
                    y = exact.multiply(T.Cast("float32", fine(x[row, column], e)), factor)
                    z = exact.multiply(T.Cast("float32", fine(x[row, column + half], e)), factor)
                    if part < 2:
                        c = times_2_to_minus_14(cos[place, column], exact)
                        s = times_2_to_minus_14(sin[place, column], exact)
                        turn(y, z, c, s, False, exact)
                        y = exact.multiply(y, scale)
                        z = exact.multiply(z, scale)
                    round_to(first, y, exact)
                    round_to(second, z, exact)
                    if is_poisoned(e):
                        first = T.int32(POISON)
                        second = T.int32(POISON)
                    q[row, column] = T.Cast("int8", first)
                    q[row, column + half] = T.Cast("int8", second)
                    column = column + threads

    return heads


def heads(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x float32 [B, P, 3, N, 2, H], cos and sin int16 [P, H] -> q, k, v int8 [B, P, N, 2, H]."""
    x = row_major(x)
    found = torch.empty(x.shape, dtype=torch.int8, device=x.device)
    columns = 2 * x.shape[-1]
    numbers = x.shape[3], kappa_bits(columns)
    slices = x.view(-1, columns), row_major(cos), row_major(sin), found.view(-1, columns)
    heads_kernel(x.device)(*slices, *numbers)
    q, k, v = (part.contiguous() for part in found.unbind(2))
    return q, k, v
