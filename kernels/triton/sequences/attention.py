"""Softmax attention in integers (ARB-ATT-001 to -004): a program takes some queries of one head twice over
the positions they see, for the largest score and for the sums."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...layout import row_major
from ..launch import float_overflow, require_device
from ..rows.fixed_point import EXACT, nan_where
from .scores import extents, row_of, rows_at, rows_of, seen, tile_for, weighted, weights

NO_SCORE = tl.constexpr(-(1 << 30))


@triton.jit
def is_poison(x, head, rows, heads, count, dim):
    """Which rows of one head are poisoned slices (ARB-HEAD-003)."""
    place = (head // heads * count + rows) * heads + head % heads
    return tl.load(x + place * dim, mask=rows < count, other=0) == -128


@triton.jit
def reach(first, queries, positions, window, QUERIES: tl.constexpr, POSITIONS: tl.constexpr):
    """Where the positions begin, at a whole tile, and end that some of the queries from `first` on see."""
    ahead = positions - queries + first
    begin = tl.where(window == 0, 0, tl.maximum(ahead - window + 1, 0) // POSITIONS * POSITIONS)
    return begin, tl.where(window == 0, positions, tl.minimum(ahead + QUERIES, positions))


@triton.jit(do_not_specialize=["queries", "positions", "window"])
def attention_kernel(
    q, k, v, y, top, total, queries, positions, heads, dim, window, u,
    QUERIES: tl.constexpr, POSITIONS: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    """y [B, A, N, D], top and total [B, A, N]; programs: (blocks of queries, heads of all sequences)."""
    blocks = (queries - 1) // QUERIES + 1
    head, first = (tl.program_id(0) // blocks).to(tl.int64), tl.program_id(0) % blocks * QUERIES
    i = first + tl.arange(0, QUERIES)
    begin, end = reach(first, queries, positions, window, QUERIES, POSITIONS)
    mine = rows_of(q, head, i, heads, queries, dim, DIM)
    largest = tl.full((QUERIES,), NO_SCORE, tl.int32)
    lost = is_poison(q, head, i, heads, queries, dim).to(tl.int32)
    for start in range(begin, end, POSITIONS):
        j = start + tl.arange(0, POSITIONS)
        shown = seen(i, j, queries, positions, window)
        z = tl.dot(mine, rows_of(k, head, j, heads, positions, dim, DIM).T, out_dtype=tl.int32)
        largest = tl.maximum(largest, tl.max(tl.where(shown, z, NO_SCORE), axis=1))
        gone = is_poison(k, head, j, heads, positions, dim) | is_poison(v, head, j, heads, positions, dim)
        lost = tl.maximum(lost, tl.max((shown & gone[None, :]).to(tl.int32), axis=1))
    sums, found = tl.zeros((QUERIES,), tl.int32), tl.zeros((QUERIES, DIM), tl.int64)
    for start in range(begin, end, POSITIONS):
        j = start + tl.arange(0, POSITIONS)
        z = tl.dot(mine, rows_of(k, head, j, heads, positions, dim, DIM).T, out_dtype=tl.int32)
        shown = seen(i, j, queries, positions, window)
        w = tl.where(shown, weights(largest[:, None], z, u), 0)
        sums += tl.sum(w, axis=1)
        found += weighted(w, rows_of(v, head, j, heads, positions, dim, DIM))
    value = tl.div_rn(
        found.to(tl.float32), tl.zeros_like(found).to(tl.float32) + sums.to(tl.float32)[:, None]
    )
    at, inside = rows_at(y, head, i, heads, queries, dim, DIM)
    tl.store(at, nan_where((lost > 0)[:, None], value * 0.03125), mask=inside)
    tl.store(row_of(top, head, i, heads, queries), tl.where(lost > 0, 0, largest), mask=i < queries)
    tl.store(row_of(total, head, i, heads, queries), tl.where(lost > 0, 0, sums), mask=i < queries)


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """q int8 [B, A, N, D], k and v int8 [B, S, N, D] -> y float32 [B, A, N, D], top and total int32
    [B, A, N]."""
    require_device("attention", q)
    q, k, v = row_major(q), row_major(k), row_major(v)
    batch, queries, heads, _ = q.shape
    y = torch.empty(q.shape, dtype=torch.float32, device=q.device)
    top, total = (torch.empty(q.shape[:3], dtype=torch.int32, device=q.device) for _ in range(2))
    tile = tile_for(q, k)
    with float_overflow():
        attention_kernel[(triton.cdiv(queries, tile.queries) * batch * heads,)](
            q, k, v, y, top, total, *extents(q, k, window), **tile.constants, num_warps=4, **EXACT
        )
    return y, top, total
