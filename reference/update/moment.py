"""The running mean of squares that the rule `adaptive` divides by: ARB-MOM-001..004, ARB-VOTE-005.

A moment is one non-negative integer a group, `(x + 512) << 21 | m`, which is m * 2^x on one scale over time:
that of a gradient whose exponent is 0. Everything here is a pure function of int64 arrays [O, G]; nothing is
changed in place.
"""

from typing import Final

import numpy as np

from ..groups import group_sums, spread
from ..limits import Ints
from ..quantise.exponents import bit_length

MANTISSA_BITS: Final = 21
BIAS: Final = 512
MEMORY: Final = 128  # updates that a moment looks back over


def normal(value: Ints, x: Ints, bits: int = MANTISSA_BITS) -> tuple[Ints, Ints]:
    """value * 2^x, value > 0, as m * 2^x with m of that many bits, cut off below; 0 stays 0."""
    up = bits - bit_length(value)
    return (value << np.maximum(up, 0)) >> np.maximum(-up, 0), x - up


def mean_square(gradient: Ints, e_g: Ints, group_size: int) -> tuple[Ints, Ints]:
    """ARB-MOM-002: the mean over each group of the squares of G * 2^e_g as (a, x), a of 21 bits or 0.

    gradient is [O, I], e_g the exponents of its rows [O]; both results [O, G].
    """
    size = np.abs(gradient)
    shift = np.maximum(bit_length(group_sums(size, group_size)) - 15, 0)
    half = (np.int64(1) << shift) >> 1
    columns = gradient.shape[1]
    f = (size + spread(half, group_size, columns)) >> spread(shift, group_size, columns)
    squares = group_sums(f * f, group_size)
    count = group_sums(np.ones_like(size), group_size)
    q, x = normal(squares, 2 * (shift + e_g[:, np.newaxis]), 31)
    return normal(q // count, x)


def advance(moment: Ints, square: tuple[Ints, Ints], updates: Ints) -> Ints:
    """ARB-MOM-003: the moments [O, G] after an update of `square`; `updates` were made before it.

    The first counts in full, the n-th for 1/n, from the 128th on each for 1/128.
    """
    c = np.minimum(updates + 1, MEMORY)
    a, x_a = square
    m, x_m = moment & (2**MANTISSA_BITS - 1), (moment >> MANTISSA_BITS) - BIAS
    x_m = np.where(m > 0, x_m, x_a)
    x_a = np.where(a > 0, x_a, x_m)
    x = np.maximum(x_m, x_a)
    total = (m >> np.minimum(x - x_m, 31)) * (c - 1) + (a >> np.minimum(x - x_a, 31))
    mean, x = normal((total << 3) // c, x - 3)
    return np.where((mean > 0) & (x >= -BIAS), ((x + BIAS) << MANTISSA_BITS) | mean, 0)


def root_factor(moment: Ints, e_g: Ints, gain: int) -> tuple[Ints, Ints]:
    """ARB-VOTE-005: (factor, shift), [O, G], of votes G * factor / 2^shift / 2^16 in quarters.

    `factor / 2^shift` is 4 * gain over the root of the moment on the scale of G.
    """
    m, y = moment & (2**MANTISSA_BITS - 1), (moment >> MANTISSA_BITS) - BIAS - 2 * e_g[:, np.newaxis]
    odd = y & 1
    factor = 4 * gain * inverse_root(np.maximum(m, 1) << odd)
    cut = np.maximum(bit_length(factor) - 31, 0)
    factor = np.where(m > 0, factor >> cut, 0)  # of a moment of 0 there is no vote
    return factor, np.clip(26 + ((y - odd) >> 1) - cut, 0, 62)


def inverse_root(m: Ints) -> Ints:
    """The largest integer u with u^2 * m <= 2^52, for 1 <= m < 2^22."""
    u = np.sqrt(2.0**52 / m).astype(np.int64)
    u = np.where(u * u * m > 2**52, u - 1, u)  # float64 may be one off; this is not
    return np.where((u + 1) * (u + 1) * m <= 2**52, u + 1, u)
