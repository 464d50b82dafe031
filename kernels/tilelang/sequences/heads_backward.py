"""The gradient of `heads` (ARB-HEAD-005)."""

from operator import add
from typing import Any

import tilelang.language as T
import torch

from ...layout import row_major
from ..launch import kernel, unchecked
from ..quantise.exponents import bits_of
from ..rows.fixed_point import (
    Arithmetic,
    bound_of,
    coarse,
    exponent_of_row,
    factor_of_row,
    fine,
    is_poisoned,
    or_nan,
    over_block,
    products_of_row,
    schedule,
    shifted,
)
from .slices import kappa_bits, times_2_to_minus_14, turn


@T.macro
def turned_back(
    y: T.Ref,
    z: T.Ref,
    dy: Any,
    row: Any,
    column: T.Ref,
    half: Any,
    e: T.Ref,
    scale: T.Ref,
    angles: tuple[Any, Any, T.Ref, T.Ref],
    exact: Arithmetic,
) -> None:
    """y and z: the gradient of both halves before the rotation. `angles`: cos, sin, part, place."""
    cos, sin, part, place = angles
    c, s = T.alloc_var("float32", init=0.0), T.alloc_var("float32", init=0.0)
    y = T.Cast("float32", fine(dy[row, column], e))
    z = T.Cast("float32", fine(dy[row, column + half], e))
    if part < 2:
        y = exact.multiply(y, scale)
        z = exact.multiply(z, scale)
        c = times_2_to_minus_14(cos[place, column], exact)
        s = times_2_to_minus_14(sin[place, column], exact)
        turn(y, z, c, s, True, exact)


@T.macro
def through_norm(v: T.Ref, f: Any, share: T.Ref, factor: T.Ref, exact: Arithmetic) -> None:
    """v: what is left of a gradient v behind the norm (ARB-NORM-002)."""
    along = T.alloc_var("float32", init=0.0)
    along = exact.multiply(T.Cast("float32", f), share)
    v = exact.subtract(v, along)
    v = exact.multiply(v, factor)


@kernel
@unchecked
def heads_backward_kernel(cuda: bool) -> Any:
    """dx of dy and x [slices, 2 H], slices of queries, keys and values in turn; a block a slice."""
    slices, columns = T.dynamic("slices", "int64"), T.dynamic("columns", "int64")
    positions, half = T.dynamic("positions", "int64"), T.dynamic("half", "int64")
    threads, exact = schedule(cuda)

    @T.prim_func
    def heads_backward(
        dy: T.Tensor((slices, columns), "float32"),
        x: T.Tensor((slices, columns), "float32"),
        cos: T.Tensor((positions, half), "int16"),
        sin: T.Tensor((positions, half), "int16"),
        dx: T.Tensor((slices, columns), "float32"),
        number: T.int64,
        kappa: T.int32,
    ):
        with T.Kernel(slices, threads=threads) as row:
            cells, wide = T.alloc_shared((threads,), "int32"), T.alloc_shared((threads,), "int64")
            e, e_d, k, bits, d = (T.alloc_var("int32", init=0) for _ in range(5))
            total, along, column = (T.alloc_var("int64", init=0) for _ in range(3))
            part, place = T.alloc_var("int64", init=0), T.alloc_var("int64", init=0)
            factor, share, y, z, scale = (T.alloc_var("float32", init=0.0) for _ in range(5))
            exponent_of_row(e, x, row, columns, cells, threads)
            exponent_of_row(e_d, dy, row, columns, cells, threads)
            products_of_row(total, x, e, x, e, row, columns, wide, threads)
            angles = (cos, sin, part, place)
            for t in T.Parallel(threads):
                part = T.Cast("int64", row) // number % 3
                place = T.Cast("int64", row) // (number * 3) % positions
                scale = T.float32(1.0)
                if part == 0:
                    scale = T.reinterpret(kappa, "float32")
                column = T.Cast("int64", t)
                while column < half:
                    turned_back(y, z, dy, row, column, half, e_d, scale, angles, exact)
                    d = T.Cast("int32", y)
                    along = along + T.Cast("int64", coarse(fine(x[row, column], e))) * coarse(d)
                    d = T.Cast("int32", z)
                    along = along + T.Cast("int64", coarse(fine(x[row, column + half], e))) * coarse(d)
                    column = column + threads
            over_block(along, wide, threads, add)
            for t in T.Parallel(threads):
                factor_of_row(factor, total, e, columns, exact)
                if factor < bound_of(e):
                    share = exact.divide(T.Cast("float32", along), T.Cast("float32", total))
                k = e_d - e
                column = T.Cast("int64", t)
                while column < half:
                    turned_back(y, z, dy, row, column, half, e_d, scale, angles, exact)
                    through_norm(y, fine(x[row, column], e), share, factor, exact)
                    bits = bits_of(y)
                    dx[row, column] = or_nan(is_poisoned(e) | is_poisoned(e_d), shifted(bits, k))
                    through_norm(z, fine(x[row, column + half], e), share, factor, exact)
                    bits = bits_of(z)
                    dx[row, column + half] = or_nan(is_poisoned(e) | is_poisoned(e_d), shifted(bits, k))
                    column = column + threads

    return heads_backward


def heads_backward(
    dq: torch.Tensor,
    dk: torch.Tensor,
    dv: torch.Tensor,
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
) -> torch.Tensor:
    """dq, dk, dv float32 [B, P, N, 2, H], x float32 [B, P, 3, N, 2, H], cos and sin int16 [P, H] -> dx."""
    x = row_major(x)
    dx = torch.empty_like(x)
    columns = 2 * x.shape[-1]
    dy = torch.stack((dq.detach(), dk.detach(), dv.detach()), dim=2).view(-1, columns)
    slices = dy, x.view(-1, columns), row_major(cos), row_major(sin), dx.view(-1, columns)
    heads_backward_kernel(x.device)(*slices, x.shape[3], kappa_bits(columns))
    return dx
