"""Powers of two and logarithms in integers (ARB-EXP-001 to -003), statement by statement: what is used more
than once goes through a variable (launch.py)."""

from operator import add
from typing import Any

import tilelang.language as T

from ..quantise.exponents import INFINITY_BITS, bits_of, magnitude
from ..rows.fixed_point import Arithmetic, over_block

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
def weight_below(w: T.Ref, octave: T.Ref, largest: T.Ref, value: Any, exact: Arithmetic) -> None:
    """w int64 and octave int64 of a value beside the largest of its row (ARB-SOFT-001)."""
    d, f = T.alloc_var("float32", init=0.0), T.alloc_var("int64", init=0)
    d = exact.subtract(largest, value)
    octaves_of(octave, d, exact)
    weight_of(w, octave, f)


@T.macro
def weigh_row(
    size: T.Ref, largest: T.Ref, sums: T.Ref, x: Any, row: Any, columns: Any, threads: int, exact: Arithmetic
) -> None:
    """Of a row of x: size int32, 0 before, the largest magnitude as bits; largest float32, its largest value;
    sums int64, 0 before, its weights'. Of a poisoned row size alone."""
    cells, wide = T.alloc_shared((threads,), "int32"), T.alloc_shared((threads,), "int64")
    floats = T.alloc_shared((threads,), "float32")
    column, octave, w = (T.alloc_var("int64", init=0) for _ in range(3))
    for t in T.Parallel(threads):
        largest = x[row, 0]
        column = T.Cast("int64", t)
        while column < columns:
            bits = magnitude(bits_of(x[row, column]))
            if bits > size:
                size = bits
            if x[row, column] > largest:
                largest = x[row, column]
            column = column + threads
    over_block(size, cells, threads, T.max)
    over_block(largest, floats, threads, T.max)
    for t in T.Parallel(threads):
        if size < INFINITY_BITS:
            column = T.Cast("int64", t)
            while column < columns:
                weight_below(w, octave, largest, x[row, column], exact)
                sums = sums + w
                column = column + threads
    over_block(sums, wide, threads, add)
