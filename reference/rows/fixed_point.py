"""Rows in fixed point, and float32 element by element (section 13).

Every sum over elements is one of integers. What is float32 here is NumPy's addition, product, quotient and
square root, each rounded by itself (ARB-FLOAT-001).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..limits import EXPONENT_MIN, Array, Ints, Mask, wide
from ..quantise.exponents import fixed_point, smallest_exponent, split

Floats = NDArray[np.float32]

NAN = np.uint32(0x7FC00000).view(np.float32)
BOUND = 6  # of the factor of a norm, as a power of two: 2^(e - 6) of the row's units, 2^10 of its values


class Row(NamedTuple):
    """f int64 [R, C], e int64 [R, 1], and where a row is poisoned, whose f are 0 (ARB-ROW-001)."""

    f: Ints
    e: Ints
    poisoned: Mask

    @property
    def coarse(self) -> Ints:
        """c = (f + 128) >> 8 (ARB-ROW-001)."""
        return (self.f + 128) >> 8


def rows_of(x: Floats) -> Row:
    """The fixed point of each row of x float32 [R, C]."""
    parts = split(x)
    poisoned: Mask = np.logical_not(parts.finite.all(axis=1, keepdims=True))
    clean = parts._replace(significand=np.where(poisoned, 0, parts.significand))
    each = smallest_exponent(clean.significand, clean.power)
    e = each.max(axis=1, keepdims=True, initial=EXPONENT_MIN)
    return Row(fixed_point(clean, e), e, poisoned)


def float32(a: Array) -> Floats:
    """Integers to float32, to nearest, ties to even."""
    return wide(a).astype(np.float32)


def power_of_two(k: Ints) -> Floats:
    """2^k in float32, k in -126..127."""
    return ((k + 127) << 23).astype(np.uint32).view(np.float32)


def shifted(v: Floats, k: Ints) -> Floats:
    """v * 2^k: +0.0 where that is below 2^-126, an infinity from 2^128 on (ARB-FLOAT-002). v is 0 or
    normal."""
    bits = wide(v.view(np.uint32))
    field = ((bits >> 23) & 0xFF) + k
    sign = bits >> 31 << 31
    moved = np.where(field >= 255, sign | 0x7F800000, sign | (field << 23) | (bits & 0x7FFFFF))
    nothing = (field < 1) | (bits & 0x7FFFFFFF == 0)
    return np.where(nothing, 0, moved).astype(np.uint32).view(np.float32)


def poisoned_as_nan(values: Floats, poisoned: Mask) -> Floats:
    """The one NaN in each element of a poisoned row (ARB-ROW-001)."""
    return np.where(poisoned, NAN, values)


def norm_factor(row: Row, total: Ints) -> tuple[Floats, Mask]:
    """What f is multiplied by, [R, 1], from S; and where that is at its bound (ARB-NORM-001)."""
    with np.errstate(divide="ignore"):
        mean = float32(total) / np.float32(row.f.shape[1])
        found = np.float32(1) / np.sqrt(mean) * np.float32(2**-8)
    bound = power_of_two(row.e - BOUND)
    return np.minimum(found, bound), found >= bound
