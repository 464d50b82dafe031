"""Rows in fixed point as TIR expressions (ARB-ROW-001), float32 that is rounded operation by operation, and
the schedule that the operations on rows share: a row is a block's, which reads it once for each pass.

On CUDA products and sums of float32 are TileLang's IEEE intrinsics, which nvcc does not fuse (ARB-FLOAT-001);
the C lane is compiled without contraction (launch.py).
"""

from collections.abc import Callable
from operator import add
from typing import Any

import tilelang.language as T

from ..quantise.exponents import (
    NAN_BITS,
    POISONED,
    bits_of,
    exponent_of,
    fraction,
    magnitude,
    power_of_two,
)

THREADS = 128


class Arithmetic:
    """float32 operations, each rounded to nearest by itself."""

    def __init__(self, cuda: bool) -> None:
        self.cuda = cuda

    def add(self, a: Any, b: Any) -> Any:
        """a + b."""
        return T.ieee_add(a, b) if self.cuda else a + b

    def subtract(self, a: Any, b: Any) -> Any:
        """a - b."""
        return T.ieee_sub(a, b) if self.cuda else a - b

    def multiply(self, a: Any, b: Any) -> Any:
        """a * b."""
        return T.ieee_mul(a, b) if self.cuda else a * b

    def divide(self, a: Any, b: Any) -> Any:
        """a / b."""
        return T.ieee_fdiv(a, b) if self.cuda else a / b

    def root(self, a: Any) -> Any:
        """The square root."""
        return T.ieee_fsqrt(a) if self.cuda else T.sqrt(a)

    def norm_factor(self, total: Any, columns: Any) -> Any:
        """What f is multiplied by where that is below its bound (ARB-NORM-001); total int64."""
        mean = self.divide(T.Cast("float32", total), T.Cast("float32", columns))
        return self.multiply(self.divide(T.float32(1.0), self.root(mean)), T.float32(2.0**-8))


def schedule(cuda: bool) -> tuple[int, Arithmetic]:
    """Threads of a row, and its arithmetic; on the CPU one thread has the row."""
    return THREADS if cuda else 1, Arithmetic(cuda)


def bound_of(e: Any) -> Any:
    """The largest factor of a norm, e int32."""
    return power_of_two(e - 6)


def fine(x: Any, e: Any) -> Any:
    """f int32 of a float32."""
    return fraction(bits_of(x), e)


def coarse(f: Any) -> Any:
    """c int32 of f int32 (ARB-ROW-001)."""
    return (f + 128) >> 8


def shifted(bits: Any, k: Any) -> Any:
    """Bits of v * 2^k from those of v float32, 0 or normal, and k int32 (ARB-FLOAT-002)."""
    field = (magnitude(bits) >> 23) + k
    inside = T.if_then_else(field >= 255, T.int32(0x7F800000), (field << 23) | (bits & 0x7FFFFF))
    nothing = (field < 1) | (magnitude(bits) == 0)
    return T.if_then_else(nothing, T.int32(0), (bits & T.int32(-(1 << 31))) | inside)


def or_nan(poisoned: Any, bits: Any) -> Any:
    """The float32 of these bits, the one NaN where poisoned."""
    return T.reinterpret(T.if_then_else(poisoned, T.int32(NAN_BITS), bits), "float32")


def is_poisoned(e: Any) -> Any:
    """Whether a row of this exponent is."""
    return e == POISONED


@T.macro
def over_block(mine: T.Ref, cells: Any, threads: int, join: Callable[[Any, Any], Any]) -> None:
    """mine = what `join` makes of all threads' values; cells [threads] of its type in shared memory."""
    if threads > 1:
        for t in T.Parallel(threads):
            cells[t] = mine
        for k in T.unroll(7):
            for t in T.Parallel(threads):
                if t < (threads >> (k + 1)):
                    cells[t] = join(cells[t], cells[t + (threads >> (k + 1))])
        for _t in T.Parallel(threads):
            mine = cells[0]


@T.macro
def exponent_of_row(e: T.Ref, x: Any, row: Any, columns: Any, cells: Any, threads: int) -> None:
    """e int32 of a row of x; 127 of a poisoned one. cells int32 [threads] in shared memory."""
    size, column = T.alloc_var("int32", init=0), T.alloc_var("int64", init=0)
    for t in T.Parallel(threads):
        column = T.Cast("int64", t)
        while column < columns:
            bits = magnitude(bits_of(x[row, column]))
            if bits > size:
                size = bits
            column = column + threads
    over_block(size, cells, threads, T.max)
    for _t in T.Parallel(threads):
        e = exponent_of(size)  # noqa: F841  (a reference)


@T.macro
def products_of_row(
    total: T.Ref, a: Any, e_a: T.Ref, b: Any, e_b: T.Ref, row: Any, columns: Any, cells: Any, threads: int
) -> None:
    """total int64, 0 before: the sum of c_a * c_b over a row (ARB-ROW-001). cells int64 [threads]."""
    column, c = T.alloc_var("int64", init=0), T.alloc_var("int64", init=0)
    for t in T.Parallel(threads):
        column = T.Cast("int64", t)
        while column < columns:
            c = T.Cast("int64", coarse(fine(a[row, column], e_a)))
            total = total + c * T.Cast("int64", coarse(fine(b[row, column], e_b)))
            column = column + threads
    over_block(total, cells, threads, add)


@T.macro
def factor_of_row(factor: T.Ref, total: T.Ref, e: T.Ref, columns: Any, exact: Arithmetic) -> None:
    """factor float32 of a row with this S and e (ARB-NORM-001)."""
    found = T.alloc_var("float32", init=0.0)
    factor = bound_of(e)
    if total > 0:
        found = exact.norm_factor(total, columns)
        if found < factor:
            factor = found
