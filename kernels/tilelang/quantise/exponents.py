"""The quantiser's arithmetic as TIR expressions (section 4), on the bits of float32 values.

f = trunc(x * 2^(16-e)) is a shift of the mantissa: no product, so no flush-to-zero mode can touch it.
"""

from typing import Any

import tilelang.language as T

POISONED = 127
LOWEST = -100
INFINITY_BITS = 0x7F800000
MAGNITUDE = 0x7FFFFFFF
MANTISSA = 0x7FFFFF
LARGEST_MANTISSA = 0x7E0000  # of 127 = 1.984375 * 2^6
NAN_BITS = 0x7FC00000
HALF = 32768


def bits_of(x: Any) -> Any:
    """A float32 as int32 bits."""
    return T.reinterpret(x, "int32")


def magnitude(bits: Any) -> Any:
    """The bits of |x|: they order as the values do, NaNs above infinity."""
    return bits & MAGNITUDE


def exponent_of(largest: Any) -> Any:
    """e of a set, int32, from the magnitude bits of its largest value (ARB-QUANT-001, -002, -007)."""
    carry = T.if_then_else((largest & MANTISSA) > LARGEST_MANTISSA, 1, 0)
    e = T.max((largest >> 23) - 133 + carry, LOWEST)
    return T.if_then_else(largest >= INFINITY_BITS, POISONED, e)


def power_of_two(k: Any) -> Any:
    """float32 2^k, k int32 in -126..127."""
    return T.reinterpret((k + 127) << 23, "float32")


def fraction(bits: Any, e: Any) -> Any:
    """f int32 of the value with these bits; 0 in a poisoned set (ARB-QUANT-003).

    |x| = m * 2^(B-150), so f is m shifted right by 134 + e - B, which is at least 1.
    """
    exponent = magnitude(bits) >> 23
    implicit = T.if_then_else(exponent > 0, MANTISSA + 1, 0)
    shift = T.min(T.max(134 + e - T.max(exponent, 1), 1), 31)
    f = ((bits & MANTISSA) | implicit) >> shift
    return T.if_then_else(e == POISONED, 0, T.if_then_else(bits < 0, -f, f))


def quantised(f: Any, addend: Any) -> Any:
    """q int8: rounded stochastically with r16, to nearest with HALF (ARB-QUANT-004, -005)."""
    return T.Cast("int8", (f + addend) >> 16)


def scaled_row(z: Any, e_row: Any, e_base: Any) -> Any:
    """float32(z) * 2^min(e_row + e_base, 127), the one NaN in poisoned rows (ARB-LIN-001, -003, -004).
    All int32."""
    product = T.Cast("float32", z) * power_of_two(T.min(e_row + e_base, 127))
    return T.reinterpret(T.if_then_else(e_row == POISONED, NAN_BITS, bits_of(product)), "float32")
