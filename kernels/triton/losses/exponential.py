"""Powers of two and logarithms in integers (ARB-EXP-001 to -003), and the weights of rows, in registers."""

from __future__ import annotations

import triton
import triton.language as tl

from ..quantise.exponents import exponent_of, magnitude
from ..rows.fixed_point import tile_of


@triton.jit
def octaves(d):
    """t int64 of d float32, 0 or more (ARB-EXP-002)."""
    h = d * 1.4426950216293335
    return (tl.where(h < 1048576.0, h, 1048576.0) * 1048576.0).to(tl.int64)


@triton.jit
def weight(t):
    """W int64 of t int64 (ARB-EXP-002)."""
    f = t & 0xFFFFF
    p = 1387046 - ((f * 123459) >> 20)
    p = 10304880 - ((p * f) >> 20)
    p = 59591895 - ((p * f) >> 20)
    p = 257940808 - ((p * f) >> 20)
    p = 744261112 - ((p * f) >> 20)
    p = 1073741824 - ((p * f) >> 20)
    return p >> tl.minimum(t >> 20, 31)


@triton.jit
def log2(n):
    """lb int64 of n int64 from 2^30 on (ARB-EXP-003)."""
    k = tl.zeros_like(n) + 30
    for i in tl.static_range(5):
        k = tl.where((n >> (k + (16 >> i))) > 0, k + (16 >> i), k)
    m, found = n >> (k - 30), k
    for _ in tl.static_range(20):
        m = (m * m) >> 30
        bit = m >> 31
        m, found = m >> bit, 2 * found + bit
    return found


@triton.jit
def largest_of(x, r, rows, columns, BLOCK: tl.constexpr):
    """The largest of whole rows float32 [R], and which are poisoned, for which it is 0."""
    found = tl.full((r.shape[0],), float("-inf"), tl.float32)
    size = tl.zeros((r.shape[0],), tl.int32)
    for start in range(0, columns, BLOCK):
        values, _, inside = tile_of(x, r, start, rows, columns, BLOCK)
        bits = magnitude(values)
        size = tl.maximum(size, tl.max(bits, axis=1))
        # in a poisoned row it is not used
        clean = tl.where(inside & (bits < 0x7F800000), values, float("-inf"))
        found = tl.maximum(found, tl.max(clean, axis=1))
    poisoned = exponent_of(size) == 127
    return tl.where(poisoned | (r >= rows), 0.0, found), poisoned


@triton.jit
def row_octaves(values, largest, poisoned):
    """t int64 [R, B] of elements beside their row's largest; 0 in a poisoned row."""
    return octaves(tl.where(poisoned[:, None], 0.0, largest[:, None] - values))


@triton.jit
def totals_of(x, r, largest, poisoned, rows, columns, BLOCK: tl.constexpr):
    """Sums int64 [R] of the weights of whole rows."""
    total = tl.zeros((r.shape[0],), tl.int64)
    for start in range(0, columns, BLOCK):
        values, _, inside = tile_of(x, r, start, rows, columns, BLOCK)
        w = weight(row_octaves(tl.where(inside, values, largest[:, None]), largest, poisoned))
        total += tl.sum(tl.where(inside, w, 0), axis=1)
    return total
