"""The moment of a group and what the rule `adaptive` makes of it, as TIR expressions and macros (ARB-MOM-001
to -003, ARB-VOTE-005). All are int32 but where it is said: no step of a moment leaves 31 bits.

No operand of `bit_length` is assigned twice, and selects stand for T.min and T.max (see launch.py).
"""

from typing import Any

import tilelang.language as T

from .rules import bit_length, size

MANTISSA_BITS, BIAS, MEMORY = 21, 512, 128
ROOT = 2**52


def mantissa(moment: Any) -> Any:
    """m of a moment."""
    return moment & ((1 << MANTISSA_BITS) - 1)


def exponent(moment: Any) -> Any:
    """x of a moment."""
    return (moment >> MANTISSA_BITS) - BIAS


def square_shift(total: Any) -> Any:
    """s: how far |G| is shifted before it is squared, from the group's sum, int64 (ARB-MOM-002)."""
    return T.if_then_else(bit_length(total) > 15, bit_length(total) - 15, 0)


@T.macro
def add_square(squares: T.Ref, g: Any, s: Any) -> None:
    """Adds the square of a gradient, shifted and rounded, to squares: Q stays below 2^31."""
    bits = T.alloc_var("uint32", init=0)
    f = T.alloc_var("int32", init=0)
    bits = T.Cast("uint32", s)
    f = T.Cast("int32", (size(g) + ((T.uint32(1) << bits) >> T.uint32(1))) >> bits)
    squares = squares + f * f


@T.macro
def mean_square(square: Any, squares: Any, s: Any, count: Any, e_g: Any) -> None:
    """square [2] = a and x_a, from Q, s, the length of the group and its exponent (ARB-MOM-002)."""
    up = T.alloc_var("int32", init=0)
    down = T.alloc_var("int32", init=0)
    mean = T.alloc_var("int32", init=0)
    up = 31 - bit_length(T.Cast("int64", squares))
    mean = T.truncdiv(squares << up, count)  # of 21 bits or more, as count is at most 1024; or 0
    down = T.if_then_else(squares > 0, bit_length(T.Cast("int64", mean)) - MANTISSA_BITS, 0)
    square[0] = mean >> down
    square[1] = 2 * (s + e_g) - up + down


def _shifted(value: Any, by: Any) -> Any:
    """value >> by, for any `by` from 0."""
    return value >> T.if_then_else(by < 31, by, 31)


@T.macro
def advance(moment: T.Ref, square: Any, updates: Any) -> None:
    """The moment behind an update of that mean square, as `mean_square` has it; updates int64, how many were
    made before it (ARB-MOM-003)."""
    m = T.alloc_var("int32", init=0)
    c = T.alloc_var("int32", init=0)
    total = T.alloc_var("int32", init=0)
    mean = T.alloc_var("int32", init=0)
    x_a = T.alloc_var("int32", init=0)
    x_m = T.alloc_var("int32", init=0)
    x = T.alloc_var("int32", init=0)
    less = T.alloc_var("int32", init=0)
    m = mantissa(moment)
    # what is 0 has the exponent of the other
    x_m = T.if_then_else(m > 0, exponent(moment), square[1])
    x_a = T.if_then_else(square[0] > 0, square[1], x_m)
    x = T.if_then_else(x_a > x_m, x_a, x_m)
    c = T.Cast("int32", T.if_then_else(updates < T.int64(MEMORY), updates + T.int64(1), T.int64(MEMORY)))
    total = _shifted(m, x - x_m) * (c - 1) + _shifted(square[0], x - x_a)
    mean = T.truncdiv(total << 3, c)
    less = bit_length(T.Cast("int64", mean)) - MANTISSA_BITS
    x = x - 3 + less
    m = T.if_then_else(less < 0, mean << -less, mean >> less)
    moment = T.if_then_else((mean > 0) & (x >= -BIAS), ((x + BIAS) << MANTISSA_BITS) | m, 0)


@T.macro
def inverse_root(u: T.Ref, m: Any) -> None:
    """u int64, the largest integer with u^2 * m <= 2^52, for m int64 in 1..2^22-1. The square root of a
    float64 may be one off; the products are not."""
    u = T.Cast("int64", T.sqrt(T.float64(ROOT) / T.Cast("float64", m)))
    u = T.if_then_else(u * u * m > T.int64(ROOT), u - T.int64(1), u)
    u = T.if_then_else((u + T.int64(1)) * (u + T.int64(1)) * m <= T.int64(ROOT), u + T.int64(1), u)


@T.macro
def root_factor(voting: Any, moment: Any, e_g: Any, gain: Any) -> None:
    """voting [0], [1] = factor and shift of votes over the root of the moment; gain is int64
    (ARB-VOTE-005)."""
    shift = T.alloc_var("int32", init=0)
    u = T.alloc_var("int64", init=0)
    m = T.alloc_var("int64", init=0)
    y = T.alloc_var("int32", init=0)
    cut = T.alloc_var("int32", init=0)
    wide = T.alloc_var("int64", init=0)
    y = exponent(moment) - 2 * e_g
    m = T.Cast("int64", T.if_then_else(mantissa(moment) > 0, mantissa(moment), 1) << (y & 1))
    inverse_root(u, m)
    wide = T.int64(4) * gain * u
    cut = bit_length(wide) - 31
    cut = T.if_then_else(cut < 0, 0, cut)
    # of a moment of 0 there is no vote
    voting[0] = T.if_then_else(moment > 0, T.Cast("int32", wide >> T.Cast("int64", cut)), 0)
    shift = 26 + (y >> 1) - cut  # y >> 1 is (y - p) / 2
    voting[1] = T.if_then_else(shift < 0, 0, T.if_then_else(shift > 62, 62, shift))


@T.macro
def adapt(
    voting: Any, squares: Any, s: Any, count: Any, e_g: Any, moment: Any, updates: Any, gain: Any
) -> None:
    """voting [3] = factor, shift and the new moment of a group, from Q and s and the moment before; updates
    and gain are int64."""
    square = T.alloc_local((2,), "int32")
    after = T.alloc_var("int32", init=0)
    mean_square(square, squares, s, count, e_g)
    after = moment
    advance(after, square, updates)
    root_factor(voting, after, e_g, gain)
    voting[2] = after
