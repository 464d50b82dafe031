"""Softmax attention in integers (ARB-ATT-001 to -004): a block has one query of one head."""

from operator import add
from typing import Any

import tilelang.language as T
import torch

from ...heads import POISON
from ...layout import row_major
from ..launch import kernel, unchecked
from ..quantise.exponents import bits_of
from ..rows.fixed_point import or_nan, over_block, schedule
from .scores import (
    TILE,
    add_tile,
    cell_of,
    first_line,
    lanes,
    numbers_of,
    place_of,
    positions_seen,
    score,
    tile_cells,
    weight,
)

NO_SCORE = -(1 << 30)


@T.macro
def look(
    largest: T.Ref, lost: T.Ref, slices: tuple[Any, Any, Any], mine: T.Ref, base: T.Ref, seen: Any, of: Any
) -> None:
    """The largest score of every `threads`-th of the positions seen, and whether one is poisoned. `slices`:
    q, k, v; `seen`: begin and end; `of`: heads, dim, threads, the thread."""
    q, k, v = slices
    begin, end = seen
    heads, dim, threads, t = of
    j, line = T.alloc_var("int64", init=0), T.alloc_var("int64", init=0)
    z = T.alloc_var("int32", init=0)
    if q[mine, 0] == POISON:
        lost = 1
    j = begin + t
    while j < end:
        line = base + j * heads
        score(z, q, mine, k, line, dim)
        if z > largest:
            largest = z
        if (k[line, 0] == POISON) | (v[line, 0] == POISON):
            lost = 1  # noqa: F841  (a reference)
        j = j + threads


@kernel
@unchecked
def attention_kernel(cuda: bool) -> Any:
    """y [B * A * N, D], top and total [B * A * N]."""
    rows, lines, dim = T.dynamic("rows", "int64"), T.dynamic("lines", "int64"), T.dynamic("dim", "int64")
    threads, exact = schedule(cuda)
    most, of_tile = lanes(threads), tile_cells(threads)

    @T.prim_func
    def attention(
        q: T.Tensor((rows, dim), "int8"),
        k: T.Tensor((lines, dim), "int8"),
        v: T.Tensor((lines, dim), "int8"),
        y: T.Tensor((rows, dim), "float32"),
        top: T.Tensor((rows,), "int32"),
        total: T.Tensor((rows,), "int32"),
        queries: T.int64,
        positions: T.int64,
        heads: T.int64,
        window: T.int64,
        u: T.int32,
    ):
        with T.Kernel(rows, threads=threads) as block:
            cells, w_of = T.alloc_shared((threads,), "int32"), of_tile((TILE,), "int32")
            found = T.alloc_local((most,), "int64")
            row, mine, base, head, line, j = (T.alloc_var("int64", init=0) for _ in range(6))
            begin, end, first = (T.alloc_var("int64", init=0) for _ in range(3))
            z, w, sums, lost, bits = (T.alloc_var("int32", init=0) for _ in range(5))
            largest, value = T.alloc_var("int32", init=NO_SCORE), T.alloc_var("float32", init=0.0)
            for t in T.Parallel(threads):
                place_of(row, mine, block, queries, heads)
                positions_seen(begin, end, row, queries, positions, window)
                first_line(base, head, block, queries, positions, heads)
                for c in T.unroll(most):
                    found[c] = T.int64(0)
                look(largest, lost, (q, k, v), mine, base, (begin, end), (heads, dim, threads, t))
            over_block(largest, cells, threads, T.max)
            over_block(lost, cells, threads, T.max)
            for tile in T.serial((end - begin + TILE - 1) // TILE):
                for t in T.Parallel(threads):
                    for m in T.serial(TILE // threads):
                        j = begin + tile * TILE + m * threads + t
                        w = 0
                        if j < end:
                            line = base + j * heads
                            score(z, q, mine, k, line, dim)
                            weight(w, largest, z, u)
                        sums = sums + w
                        w_of[cell_of(m, t, threads)] = w
                for t in T.Parallel(threads):
                    first = begin + tile * TILE
                    add_tile(found, w_of, v, first, end, base, (heads, dim, threads, t, most))
            over_block(sums, cells, threads, add)
            for t in T.Parallel(threads):
                for c in T.serial(most):
                    if c * threads + t < dim:
                        value = exact.divide(T.Cast("float32", found[c]), T.Cast("float32", sums))
                        value = exact.multiply(value, T.float32(2.0**-5))
                        bits = bits_of(value)
                        y[mine, c * threads + t] = or_nan(lost > 0, bits)
                if t == 0:
                    if lost > 0:
                        largest = 0
                        sums = 0
                    top[mine] = largest
                    total[mine] = sums

    return attention


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """q int8 [B, A, N, D], k and v int8 [B, S, N, D] -> y float32 [B, A, N, D], top and total int32
    [B, A, N]."""
    q, k, v = row_major(q), row_major(k), row_major(v)
    y = torch.empty(q.shape, dtype=torch.float32, device=q.device)
    top, total = (torch.empty(q.shape[:3], dtype=torch.int32, device=q.device) for _ in range(2))
    dim = q.shape[3]
    lines = (x.view(-1, dim) for x in (q, k, v, y))
    attention_kernel(q.device)(*lines, top.view(-1), total.view(-1), *numbers_of(q, k, window))
    return y, top, total
