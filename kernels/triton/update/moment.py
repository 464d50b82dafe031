"""The moment of a group, the running mean of squares that the rule `adaptive` divides by (ARB-MOM,
ARB-VOTE-005).

Everything here is a group's, not an element's: tensors of a group a place, of any shape. Mantissas and
exponents are int32, what is multiplied further is int64.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .rules import bit_length

MANTISSA_BITS, MANTISSA = tl.constexpr(21), tl.constexpr(2**21 - 1)
BIAS = tl.constexpr(512)
MEMORY = tl.constexpr(128)  # updates that a moment looks back over


@triton.jit
def normal(value, x, BITS: tl.constexpr):
    """value * 2^x, int32 and not negative, as m * 2^x with m of BITS bits, cut off below; 0 stays 0."""
    up = BITS - bit_length(value).to(tl.int32)
    return (value << tl.maximum(up, 0)) >> tl.maximum(-up, 0), x - up


@triton.jit
def square_shift(total):
    """int32: by how many bits the |G| of a group of that sum S, int64, are shifted before they are squared
    (ARB-MOM-002)."""
    return tl.maximum(bit_length(total).to(tl.int32) - 15, 0)


@triton.jit
def mean_square(squares, shift, e_g, count):
    """int32 a and x_a of the sum of squares Q int32 of `count` elements shifted so (ARB-MOM-002)."""
    q, x = normal(squares, 2 * (shift + e_g), 31)
    return normal(q // count, x, MANTISSA_BITS)


@triton.jit
def advance(moment, a, x_a, updates):
    """int32 moment after an update of the mean square a * 2^x_a, before which `updates` were made, as uint32
    (ARB-MOM-003)."""
    c = tl.minimum(updates.to(tl.uint32), MEMORY - 1).to(tl.int32) + 1
    m, x_m = moment & MANTISSA, (moment >> MANTISSA_BITS) - BIAS
    x_m = tl.where(m > 0, x_m, x_a)
    x_a = tl.where(a > 0, x_a, x_m)
    x = tl.maximum(x_m, x_a)
    # below 2^28: 128 numbers of 21 bits
    total = (m >> tl.minimum(x - x_m, 31)) * (c - 1) + (a >> tl.minimum(x - x_a, 31))
    mean, x = normal((total << 3) // c, x - 3, MANTISSA_BITS)
    return tl.where((mean > 0) & (x >= -BIAS), ((x + BIAS) << MANTISSA_BITS) | mean, 0)


@triton.jit
def inverse_root(m):
    """int64: the largest u with u^2 * m <= 2^52, int32 1 <= m < 2^22."""
    u = (tl.rsqrt(m.to(tl.float32)) * 67108864.0).to(tl.int64)
    # a step of Newton's in integers leaves at most one to correct, whatever the float's last bits were
    u += (((1 << 52) - u * u * m) * u) >> 53
    u = tl.where(u * u * m > (1 << 52), u - 1, u)
    return tl.where((u + 1) * (u + 1) * m <= (1 << 52), u + 1, u)


@triton.jit
def root_factor(moment, e_g, gain):
    """int32 factor and shift of shares |G| * factor >> shift, for a gain in quarters (ARB-VOTE-005)."""
    m, y = moment & MANTISSA, (moment >> MANTISSA_BITS) - BIAS - 2 * e_g
    odd = y & 1
    factor = inverse_root(tl.maximum(m, 1) << odd) * gain
    cut = tl.maximum(bit_length(factor).to(tl.int32) - 31, 0)
    shift = tl.minimum(tl.maximum(26 + ((y - odd) >> 1) - cut, 0), 62)
    # of a moment of 0 there is no vote
    return tl.where(m > 0, factor >> cut, 0).to(tl.int32), shift
