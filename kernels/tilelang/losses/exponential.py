"""Powers of two and logarithms in integers (ARB-EXP-001 to -003), statement by statement: what is used more
than once goes through a variable (launch.py)."""

from typing import Any

import tilelang.language as T

from ..quantise.exponents import bits_of, magnitude
from ..rows.fixed_point import Arithmetic

UNITS = 20  # of an octave, as a power of two
ONE = 1 << 30
LOG2_E = 1.442695  # TileLang writes six decimals; the float32 next to these is 0x3FB8AA3B
MOST = 2.0**20  # octaves


@T.macro
def octaves_of(t: T.Ref, d: T.Ref, exact: Arithmetic) -> None:
    """t int64 of d float32, 0 or more, which is changed (ARB-EXP-002)."""
    d = exact.multiply(d, T.float32(LOG2_E))
    if d > T.float32(MOST):
        d = T.float32(MOST)
    t = T.Cast("int64", exact.multiply(d, T.float32(2.0**UNITS)))  # noqa: F841  (a reference)


@T.macro
def weight_of(w: T.Ref, t: T.Ref, f: T.Ref) -> None:
    """w int64 of t int64 (ARB-EXP-002); f is anything."""
    f = t & T.int64((1 << UNITS) - 1)
    w = T.int64(1387046) - ((f * T.int64(123459)) >> UNITS)
    w = T.int64(10304880) - ((w * f) >> UNITS)
    w = T.int64(59591895) - ((w * f) >> UNITS)
    w = T.int64(257940808) - ((w * f) >> UNITS)
    w = T.int64(744261112) - ((w * f) >> UNITS)
    w = T.int64(ONE) - ((w * f) >> UNITS)
    f = t >> UNITS
    if f > 31:
        f = T.int64(31)
    w = w >> f


@T.macro
def log2_of(found: T.Ref, n: T.Ref, bit: T.Ref) -> None:
    """found int64 of n int64 from 2^30 on, which is changed (ARB-EXP-003); bit is anything."""
    found = T.int64(30)
    while (n >> 31) > (T.int64(1) << (found - 30)) - 1:
        found = found + 1
    n = n >> (found - 30)
    for _ in T.serial(UNITS):
        n = (n * n) >> 30
        bit = n >> 31
        n = n >> bit
        found = 2 * found + bit


@T.macro
def take_largest(mine: T.Ref, size: T.Ref, value: Any) -> None:
    """mine float32, at first any value of the row, and size, the largest magnitude as bits, with one more
    value; where that is no number mine is not used."""
    bits = magnitude(bits_of(value))
    if bits > size:
        size = bits
    if value > mine:
        mine = value


@T.macro
def largest_float(mine: T.Ref, cells: Any, threads: int) -> None:
    """mine float32 = the largest of all threads; cells float32 [threads] in shared memory."""
    if threads > 1:
        for t in T.Parallel(threads):
            cells[t] = mine
        for k in T.unroll(7):
            for t in T.Parallel(threads):
                if t < (threads >> (k + 1)):
                    cells[t] = T.max(cells[t], cells[t + (threads >> (k + 1))])
        for _t in T.Parallel(threads):
            mine = cells[0]
