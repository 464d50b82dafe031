"""Weights of scores in registers (ARB-ATT-001, -002), products of wide integers in planes of 8 bits, and
how attention is launched."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from ...heads import MOST_DIM, scale_of
from ..launch import block_of, pick

LEAST = 32  # of an axis over which matrix units add: numbers of a head, queries, positions


@dataclass(frozen=True)
class Tile:
    """Queries and positions of one program, and the numbers of a head that it has room for."""

    queries: int
    positions: int
    dim: int

    @property
    def constants(self) -> dict[str, int]:
        """As the kernels take them."""
        return {"QUERIES": self.queries, "POSITIONS": self.positions, "DIM": self.dim}


def tile_for(q: torch.Tensor, k: torch.Tensor) -> Tile:
    """The tile of a call: smaller ones for wide heads."""
    dim = block_of(q.shape[3], LEAST, MOST_DIM)
    largest = pick(64 if dim <= 128 else 32, 256)
    return Tile(block_of(q.shape[1], LEAST, largest), block_of(k.shape[1], LEAST, largest), dim)


def extents(q: torch.Tensor, k: torch.Tensor, window: int) -> tuple[int, ...]:
    """queries, positions, heads, dim, window, u: the integers of every kernel of attention."""
    _, queries, heads, dim = q.shape
    return queries, k.shape[1], heads, dim, window, scale_of(dim)[1]


@triton.jit
def rows_at(x, head, rows, heads, count, dim, DIM: tl.constexpr):
    """Pointers to rows of one head of x [B, T, N, D], and which are inside: [X, DIM]. `head` is b * N + n."""
    batch, number = head // heads, head % heads
    place = (batch * count + rows) * heads + number
    c = tl.arange(0, DIM)
    inside = (rows < count)[:, None] & (c < dim)[None, :]
    return x + place[:, None] * dim + c[None, :], inside


@triton.jit
def row_of(x, head, rows, heads, count):
    """Pointers to one number a row and head, x [B, T, N]."""
    return x + (head // heads * count + rows) * heads + head % heads


@triton.jit
def rows_of(x, head, rows, heads, count, dim, DIM: tl.constexpr):
    """The rows themselves; 0 outside."""
    at, inside = rows_at(x, head, rows, heads, count, dim, DIM)
    return tl.load(at, mask=inside, other=0)


@triton.jit
def seen(i, j, queries, positions, window):
    """Which of the positions j the queries i see, [QUERIES, POSITIONS] (ARB-ATT-001)."""
    behind = (positions - queries + i)[:, None] - j[None, :]
    return (j < positions)[None, :] & ((window == 0) | ((behind >= 0) & (behind < window)))


@triton.jit
def weights(top, z, u):
    """w int32 of scores z beside the largest of their row (ARB-ATT-002)."""
    below = tl.minimum(tl.maximum(top - z, 0), 15 << u) << (16 - u)
    f, n = below & 0xFFFF, below >> 16
    p = (498026175 - 1315 * f) >> 16
    p = (1485659542 - p * f) >> 16
    p = (2147385344 - p * f) >> 16
    return (p + (1 << n)) >> (n + 1)


@triton.jit
def low_plane(a):
    """The lowest 8 bits of int32 as a signed int8, and the rest shifted by as many: a = (rest << 8) + low."""
    low = ((a + 128) & 255) - 128
    return low.to(tl.int8), (a - low) >> 8


@triton.jit
def planes(a):
    """int32 of magnitudes up to 2^23 - 2^15 as three int8: a = (high << 16) + (middle << 8) + low."""
    low, rest = low_plane(a)
    middle, rest = low_plane(rest)
    return rest.to(tl.int8), middle, low


@triton.jit
def wide_dot(a, b):
    """int64 product of int32 as in `planes` [X, Y] and int8 [Y, Z]."""
    high, middle, low = planes(a)
    found = (tl.dot(high, b, out_dtype=tl.int32).to(tl.int64) << 8) + tl.dot(middle, b, out_dtype=tl.int32)
    return (found << 8) + tl.dot(low, b, out_dtype=tl.int32)


@triton.jit
def wider_dot(a, b):
    """int64 product of int32 of magnitudes below 2^30 [X, Y] and int8 [Y, Z]."""
    low, rest = low_plane(a)
    return (wide_dot(rest, b) << 8) + tl.dot(low, b, out_dtype=tl.int32)


@triton.jit
def weighted(w, b):
    """int64 product of weights int32 [X, Y], 14 bits, and int8 [Y, Z]."""
    high, low = (w >> 7).to(tl.int8), (w & 127).to(tl.int8)
    upper = tl.dot(high, b, out_dtype=tl.int32).to(tl.int64) << 7
    return upper + tl.dot(low, b, out_dtype=tl.int32)
