"""Powers of two and logarithms in integers (section 13)."""

from typing import Final, NamedTuple

import numpy as np

from ..limits import Ints, Mask
from ..quantise.exponents import bit_length
from ..rows.fixed_point import Floats, rows_of

UNITS: Final = 20  # of an octave, as a power of two
ONE: Final = 2**30
COEFFICIENTS: Final = (ONE, 744261112, 257940808, 59591895, 10304880, 1387046, 123459)
LOG2_E: Final = np.uint32(0x3FB8AA3B).view(np.float32)
MOST: Final = np.float32(2**20)  # octaves


def fraction_power(f: Ints) -> Ints:
    """E (ARB-EXP-001)."""
    *others, last = COEFFICIENTS
    p: Ints = np.full(f.shape, last, np.int64)
    for c in reversed(others):
        p = c - (p * f >> UNITS)
    return p


def octaves(d: Floats) -> Ints:
    """t of d >= 0 (ARB-EXP-002)."""
    with np.errstate(over="ignore"):
        h = np.minimum(d * LOG2_E, MOST)
    t: Ints = (h * np.float32(2**UNITS)).astype(np.int64)
    return t


def weight(t: Ints) -> Ints:
    """W (ARB-EXP-002)."""
    w: Ints = fraction_power(t & (2**UNITS - 1)) >> np.minimum(t >> UNITS, 31)
    return w


def log2(n: Ints) -> Ints:
    """lb of integers from 2^30 on (ARB-EXP-003)."""
    k = bit_length(n) - 1
    m, found = n >> (k - 30), k
    for _ in range(UNITS):
        m = m * m >> 30
        bit = m >> 31
        m, found = m >> bit, 2 * found + bit
    return found


class Weights(NamedTuple):
    """Of rows [R, C]: octaves below the largest, weights, sums of those [R, 1], who is poisoned [R, 1]."""

    t: Ints
    w: Ints
    total: Ints
    poisoned: Mask


def weights_of(x: Floats) -> Weights:
    """t, w and the sum of w of each row (ARB-SOFT-001); of a poisoned one those of equal elements."""
    poisoned = rows_of(x).poisoned
    clean = np.where(poisoned, np.float32(0), x)
    with np.errstate(over="ignore"):
        d = clean.max(axis=1, keepdims=True) - clean
    t = octaves(d)
    w = weight(t)
    return Weights(t, w, w.sum(axis=1, keepdims=True), poisoned)
