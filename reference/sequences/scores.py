"""What scores of attention are in, who sees whom, and the weights of scores (section 13)."""

from typing import Final, NamedTuple

import numpy as np

from ..limits import Array, Ints, Mask, check_array, check_integer, check_range, wide
from ..rows.fixed_point import Floats

POISON: Final = -128  # of a slice, in all its elements
LOG2_E: Final = 1.4426950408889634
MOST_POSITIONS: Final = 65535
MOST_DIM: Final = 256
CUBIC: Final = (2147385344, 1485659542, 498026175, 1315)


class Scale(NamedTuple):
    """Of heads of D numbers: what queries are multiplied by, and u: a score is in 2^-u octaves."""

    kappa: np.float32
    u: int


def scale_of(head_dim: int) -> Scale:
    """ARB-HEAD-004."""
    j, kappa = -1, LOG2_E / head_dim**0.5 / 2
    while kappa < 2**-0.5:
        j, kappa = j + 1, 2 * kappa
    return Scale(np.float32(kappa), 10 + j)


def power(fraction: Ints) -> Ints:
    """P (ARB-EXP-004)."""
    *others, last = CUBIC
    p: Ints = np.full(fraction.shape, last, np.int64)
    for constant in reversed(others):
        p = (constant - p * fraction) >> 16
    return p


def weights_below(top: Ints, z: Ints, u: int) -> Ints:
    """w of scores z beside their row's largest (ARB-ATT-002)."""
    t = np.clip(top - z, 0, 15 * 2**u) << (16 - u)
    n = t >> 16
    w: Ints = (power(t & 0xFFFF) + (1 << n)) >> (n + 1)
    return w


def seen(queries: int, positions: int, window: int) -> Mask:
    """Which of the positions each query sees, [A, S] (ARB-ATT-001)."""
    behind = np.arange(positions - queries, positions)[:, np.newaxis] - np.arange(positions)
    return (behind >= 0) & (behind < window) if window else np.full(behind.shape, True)


def check_slices(name: str, q: Array, *shape: int | None) -> None:
    """int8 [..., D] of -127..127, or of -128 in the whole of a slice."""
    check_array(name, q, np.int8, *shape)
    mixed = np.where((q == POISON).all(axis=-1, keepdims=True), 0, q)
    check_range(name, mixed, -127, 127)


def check_attended(q: Array, k: Array, v: Array, window: int) -> int:
    """ARB-ATT-001: the shapes that belong together; gives the window as a Python integer."""
    check_slices("q", q, None, None, None, None)
    batch, queries, heads, dim = q.shape
    check_slices("k", k, batch, None, heads, dim)
    check_slices("v", v, batch, k.shape[1], heads, dim)
    check_integer("positions of k", k.shape[1], queries, MOST_POSITIONS)
    check_integer("numbers of a head", dim, 1, MOST_DIM)
    return check_integer("window", window, 0, 2**31 - 1)


def products(a: Array, b: Array) -> Ints:
    """Of one head: a [X, D] and b [Y, D] to the sums of their products [X, Y]."""
    found: Ints = wide(a) @ wide(b).T
    return found


def is_poisoned(q: Array) -> Mask:
    """Which slices [X, D] of one head are."""
    poisoned: Mask = q[:, 0] == POISON
    return poisoned


def clamped(y: Floats) -> Ints:
    """m of what attention gave (ARB-ATT-005), 0 of a NaN."""
    with np.errstate(over="ignore"):
        scaled = np.clip(np.nan_to_num(y, nan=0.0) * np.float32(2**13), -32512, 32512)
    m: Ints = scaled.astype(np.int64)
    return m
