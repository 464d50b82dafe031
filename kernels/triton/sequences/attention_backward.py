"""The gradients of `attention` (ARB-ATT-005, -006), in three launches: the exponent of each head's G; dq, a
block of queries at a time, with their means; dk and dv, a block of positions at a time."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...heads import shift_of
from ...layout import row_major
from ..launch import float_overflow, pick, require_device
from ..quantise.exponents import exponent_of, fraction, magnitude
from ..rows.fixed_point import EXACT, nan_where, shifted
from .attention import reach
from .scores import (
    extents,
    planes,
    row_of,
    rows_at,
    rows_of,
    seen,
    tile_for,
    weighted,
    weights,
    wide_dot,
    wider_dot,
)

ROWS = pick(16, 256)  # of a head, at a time, for its exponent
LN_2 = tl.constexpr(0.6931471824645996)


@triton.jit
def gradient_of(dy, total, head, i, heads, queries, dim, DIM: tl.constexpr):
    """G float32 [X, DIM]; 0 outside."""
    change = rows_of(dy, head, i, heads, queries, dim, DIM)
    sums = tl.load(row_of(total, head, i, heads, queries), mask=i < queries, other=1).to(tl.float32)
    return tl.div_rn(change, tl.zeros_like(change) + (sums * 0.00006103515625)[:, None])


@triton.jit(do_not_specialize=["queries", "positions", "window"])
def exponent_kernel(
    dy, y, total, e, queries, positions, heads, dim, window, u, ROWS: tl.constexpr, DIM: tl.constexpr
):
    """e int32 [B * N]: of all G of a head; 127 where one, or a y, is not finite."""
    head = tl.program_id(0).to(tl.int64)
    largest = 0
    for start in range(0, queries, ROWS):
        i = start + tl.arange(0, ROWS)
        change = magnitude(gradient_of(dy, total, head, i, heads, queries, dim, DIM))
        given = magnitude(rows_of(y, head, i, heads, queries, dim, DIM))
        worst = tl.where(given < 0x7F800000, change, given)
        largest = tl.maximum(largest, tl.max(worst))
    tl.store(e + head, exponent_of(largest))


@triton.jit
def mean_of(f, y, head, i, heads, queries, dim, DIM: tl.constexpr):
    """The mean int64 [X] of a query's products (ARB-ATT-005)."""
    given = rows_of(y, head, i, heads, queries, dim, DIM) * 8192.0
    m = tl.where(given > -32512.0, tl.where(given < 32512.0, given, 32512.0), -32512.0).to(tl.int64)
    return (tl.sum(f.to(tl.int64) * m, axis=1) + 128) >> 8


@triton.jit
def slopes(w, products, mean, s):
    """ds int32 (ARB-ATT-005), from the products of f and v, int64."""
    return (((w.to(tl.int64) * (products - mean) >> (s - 1)) + 1) >> 1).to(tl.int32)


@triton.jit(do_not_specialize=["queries", "positions", "window"])
def queries_kernel(
    dy, y, top, total, e, q, k, v, means, dq, queries, positions, heads, dim, window, u, s,
    QUERIES: tl.constexpr, POSITIONS: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    """dq [B, A, N, D], and means int64 [B, A, N]; programs: (blocks of queries, heads of all sequences)."""
    blocks = (queries - 1) // QUERIES + 1
    head, first = (tl.program_id(0) // blocks).to(tl.int64), tl.program_id(0) % blocks * QUERIES
    i = first + tl.arange(0, QUERIES)
    begin, end = reach(first, queries, positions, window, QUERIES, POSITIONS)
    power = tl.load(e + head)
    f = fraction(gradient_of(dy, total, head, i, heads, queries, dim, DIM), power)
    mean = mean_of(f, y, head, i, heads, queries, dim, DIM)
    tl.store(row_of(means, head, i, heads, queries), mean, mask=i < queries)
    largest = tl.load(row_of(top, head, i, heads, queries), mask=i < queries, other=0)
    mine = rows_of(q, head, i, heads, queries, dim, DIM)
    found = tl.zeros((QUERIES, DIM), tl.int64)
    for start in range(begin, end, POSITIONS):
        j = start + tl.arange(0, POSITIONS)
        keys = rows_of(k, head, j, heads, positions, dim, DIM)
        z = tl.dot(mine, keys.T, out_dtype=tl.int32)
        w = tl.where(seen(i, j, queries, positions, window), weights(largest[:, None], z, u), 0)
        products = wide_dot(f, rows_of(v, head, j, heads, positions, dim, DIM).T)
        found += wider_dot(slopes(w, products, mean[:, None], s), keys)
    at, inside = rows_at(dq, head, i, heads, queries, dim, DIM)
    value = shifted(found.to(tl.float32) * LN_2, s + power - 30 - u)
    tl.store(at, nan_where(power == 127, value), mask=inside)


@triton.jit
def wide_weighted(w, f):
    """int64 product of weights int32 [X, Y], 14 bits, and int32 of 24 bits [Y, Z]."""
    high, middle, low = planes(f)
    return (weighted(w, high) << 16) + (weighted(w, middle) << 8) + weighted(w, low)


@triton.jit(do_not_specialize=["queries", "positions", "window"])
def positions_kernel(
    dy, total, top, e, means, q, k, v, dk, dv, queries, positions, heads, dim, window, u, s,
    QUERIES: tl.constexpr, POSITIONS: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    """dk and dv [B, S, N, D]; programs: (blocks of positions, heads of all sequences)."""
    blocks = (positions - 1) // POSITIONS + 1
    head, first = (tl.program_id(0) // blocks).to(tl.int64), tl.program_id(0) % blocks * POSITIONS
    j = first + tl.arange(0, POSITIONS)
    ahead = positions - queries
    begin = tl.where(window == 0, 0, tl.maximum(first - ahead, 0) // QUERIES * QUERIES)
    # 64 bits: a window may be 2^31 - 1
    last = tl.minimum(first.to(tl.int64) + POSITIONS - 1 - ahead + window, queries).to(tl.int32)
    end = tl.where(window == 0, queries, last)
    power = tl.load(e + head)
    keys = rows_of(k, head, j, heads, positions, dim, DIM)
    values = rows_of(v, head, j, heads, positions, dim, DIM)
    of_k, of_v = tl.zeros((POSITIONS, DIM), tl.int64), tl.zeros((POSITIONS, DIM), tl.int64)
    for start in range(begin, end, QUERIES):
        i = start + tl.arange(0, QUERIES)
        asked = rows_of(q, head, i, heads, queries, dim, DIM)
        largest = tl.load(row_of(top, head, i, heads, queries), mask=i < queries, other=0)
        z = tl.dot(asked, keys.T, out_dtype=tl.int32)
        # queries behind the last have an f and a mean of 0
        w = tl.where(seen(i, j, queries, positions, window), weights(largest[:, None], z, u), 0)
        f = fraction(gradient_of(dy, total, head, i, heads, queries, dim, DIM), power)
        mean = tl.load(row_of(means, head, i, heads, queries), mask=i < queries, other=0)
        of_k += wider_dot(slopes(w, wide_dot(f, values.T), mean[:, None], s).T, asked)
        of_v += wide_weighted(w.T, f)
    at, inside = rows_at(dk, head, j, heads, positions, dim, DIM)
    value = shifted(of_k.to(tl.float32) * LN_2, s + power - 30 - u)
    tl.store(at, nan_where(power == 127, value), mask=inside)
    at, inside = rows_at(dv, head, j, heads, positions, dim, DIM)
    tl.store(at, nan_where(power == 127, shifted(of_v.to(tl.float32), power - 30)), mask=inside)


def attention_backward(
    dy: torch.Tensor,
    y: torch.Tensor,
    top: torch.Tensor,
    total: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    window: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """dy and y float32 [B, A, N, D], top and total int32 [B, A, N], and what `attention` took -> dq float32
    [B, A, N, D], dk and dv float32 [B, S, N, D]."""
    require_device("attention_backward", q)
    dy, y, top, total, q, k, v = map(row_major, (dy, y, top, total, q, k, v))
    batch, queries, heads, dim = q.shape
    dq, dk, dv = (torch.empty(x.shape, dtype=torch.float32, device=q.device) for x in (q, k, v))
    e = torch.empty(batch * heads, dtype=torch.int32, device=q.device)
    means = torch.empty(top.shape, dtype=torch.int64, device=q.device)
    tile, numbers, s = tile_for(q, k), extents(q, k, window), shift_of(dim)
    how = tile.constants | {"num_warps": 4} | EXACT
    with float_overflow():
        exponent_kernel[(batch * heads,)](
            dy, y, total, e, *numbers, ROWS=ROWS, DIM=tile.dim, num_warps=4, **EXACT
        )
        queries_kernel[(triton.cdiv(queries, tile.queries) * batch * heads,)](
            dy, y, top, total, e, q, k, v, means, dq, *numbers, s, **how
        )
        positions_kernel[(triton.cdiv(k.shape[1], tile.positions) * batch * heads,)](
            dy, total, top, e, means, q, k, v, dk, dv, *numbers, s, **how
        )
    return dq, dk, dv
