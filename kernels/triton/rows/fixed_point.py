"""Rows in fixed point in registers (ARB-ROW-001), the factor of a norm, powers of two by the exponent field.

Kernels with these are launched with `enable_fp_fusion=False`: no product may be fused into a sum
(ARB-FLOAT-001).
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from ..launch import block_of, float_overflow, pick
from ..quantise.exponents import exponent_of, magnitude, power_of_two

EXACT = {"enable_fp_fusion": False}
TILE = pick(4096, 65536)  # elements a program
WIDEST = 4096  # columns that are in registers at a time


def launch_rows(
    kernel: Any, rows: int, columns: int, *arrays: Any, arrays_of_a_row: int = 1, **how: Any
) -> None:
    """Launch a kernel of (arrays, rows, columns, ROWS, BLOCK) over all rows; one that holds several arrays of
    a row in registers has as many fewer rows a program."""
    block = block_of(columns, 16, WIDEST)
    tile_rows = block_of(rows, 1, max(TILE // block // arrays_of_a_row, 1))
    with float_overflow():
        kernel[(triton.cdiv(rows, tile_rows),)](
            *arrays, rows, columns, ROWS=tile_rows, BLOCK=block, num_warps=4, **EXACT, **how
        )


@triton.jit
def tile_of(x, r, start, rows, columns, BLOCK: tl.constexpr):
    """float32 [R, B] of the columns from `start`, and where they are, int64; 0 outside."""
    c = start + tl.arange(0, BLOCK)
    places = r[:, None] * columns + c[None, :]
    inside = (r < rows)[:, None] & (c < columns)[None, :]
    return tl.load(x + places, mask=inside, other=0.0), places, inside


@triton.jit
def exponents_of(x, r, rows, columns, BLOCK: tl.constexpr):
    """int32 [R] of whole rows; 127 of a poisoned one."""
    largest = tl.zeros((r.shape[0],), tl.int32)
    for start in range(0, columns, BLOCK):
        values, _, _ = tile_of(x, r, start, rows, columns, BLOCK)
        largest = tl.maximum(largest, tl.max(magnitude(values), axis=1))
    return exponent_of(largest)


@triton.jit
def coarse(f):
    """c int32 of f int32 (ARB-ROW-001)."""
    return (f + 128) >> 8


@triton.jit
def row_sums(a, b):
    """int64 [R] of int32 [R, B] each, |a| and |b| at most 2^16."""
    return tl.sum(a.to(tl.int64) * b, axis=1)


@triton.jit
def norm_factor(total, e, columns):
    """What f is multiplied by, float32 [R], and its bound (ARB-NORM-001); total int64 [R], e int32 [R]."""
    count = tl.zeros_like(e) + columns
    mean = tl.div_rn(total.to(tl.float32), count.to(tl.float32))
    bound = power_of_two(e - 6)
    one = tl.zeros_like(mean) + 1.0
    found = tl.div_rn(one, tl.sqrt_rn(mean)) * 0.00390625
    return tl.where(found < bound, found, bound), bound


@triton.jit
def shifted(v, k):
    """v * 2^k of v float32, 0 or normal, and k int32 (ARB-FLOAT-002)."""
    bits = v.to(tl.int32, bitcast=True)
    field = ((bits >> 23) & 0xFF) + k
    moved = tl.where(field >= 255, 0x7F800000, (field << 23) | (bits & 0x7FFFFF))
    found = tl.where((field < 1) | ((bits & 0x7FFFFFFF) == 0), 0, (bits & -2147483648) | moved)
    return found.to(tl.float32, bitcast=True)


@triton.jit
def nan_where(poisoned, y):
    """The one NaN in the elements of poisoned rows."""
    return tl.where(poisoned, 0x7FC00000, y.to(tl.int32, bitcast=True)).to(tl.float32, bitcast=True)
