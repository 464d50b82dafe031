"""Scores and weights of attention (ARB-ATT-001, -002), statement by statement, and what a block takes."""

from typing import Any

import tilelang.language as T
import torch

from ...heads import MOST_DIM, scale_of
from ..rows.fixed_point import THREADS

TILE = THREADS  # positions, or queries, whose weights a block holds at a time


def lanes(threads: int) -> int:
    """Numbers of a head that a thread has, at most."""
    return MOST_DIM // threads


def tile_cells(threads: int) -> Any:
    """Allocates what a block keeps of a tile: for all of its threads, or for the one of the CPU lane, whose
    target has no two shared arrays of this size."""
    return T.alloc_shared if threads > 1 else T.alloc_local


def cell_of(m: Any, t: Any, threads: int) -> Any:
    """The cell of a thread's m-th row of a tile."""
    return m if threads == 1 else m * threads + t


def numbers_of(q: torch.Tensor, k: torch.Tensor, window: int) -> tuple[int, ...]:
    """queries, positions, heads, window, u: the integers of every kernel of attention."""
    _, queries, heads, dim = q.shape
    return queries, k.shape[1], heads, window, scale_of(dim)[1]


@T.macro
def place_of(row: T.Ref, line: T.Ref, block: Any, count: Any, heads: Any) -> None:
    """Of the block of one row and head: the row within its sequence, and its line in [B * T * N, D].
    Blocks are numbered (sequence, head, row)."""
    row = T.Cast("int64", block) % count
    line = T.Cast("int64", block) // count
    line = (line // heads * count + row) * heads + line % heads


@T.macro
def first_line(line: T.Ref, head: T.Ref, block: Any, count: Any, other: Any, heads: Any) -> None:
    """Of that block: its head among those of all sequences, and the first line of it in [B * O * N, D]; the
    next one is `heads` lines on."""
    head = T.Cast("int64", block) // count
    line = head // heads * other * heads + head % heads  # noqa: F841  (a reference)


@T.macro
def score(z: T.Ref, q: Any, mine: T.Ref, k: Any, line: T.Ref, dim: Any) -> None:
    """z int32 of two lines."""
    z = T.int32(0)
    for c in T.serial(dim):
        z = z + T.Cast("int32", q[mine, c]) * T.Cast("int32", k[line, c])


@T.macro
def weight(w: T.Ref, top: T.Ref, z: T.Ref, u: Any) -> None:
    """w int32 of a score beside the largest of its row; z is changed (ARB-ATT-002)."""
    n = T.alloc_var("int32", init=0)
    z = top - z
    if z < 0:
        z = T.int32(0)
    if z > (T.int32(15) << u):
        z = T.int32(15) << u
    z = z << (T.int32(16) - u)
    n = z >> 16
    z = z & 0xFFFF
    w = (T.int32(498026175) - T.int32(1315) * z) >> 16
    w = (T.int32(1485659542) - w * z) >> 16
    w = (T.int32(2147385344) - w * z) >> 16
    w = (w + (T.int32(1) << n)) >> (n + 1)


@T.macro
def add_tile(found: Any, cells: Any, x: Any, first: T.Ref, end: T.Ref, base: T.Ref, of: Any) -> None:
    """Adds the products of a tile's cells and its rows of x to `found` int64, a number of a head each: rows
    from `first` on, below `end`, from line `base` on. `of`: heads, dim, threads, a thread, numbers of it."""
    heads, dim, threads, t, most = of
    row = T.alloc_var("int64", init=0)
    for c in T.serial(most):
        if c * threads + t < dim:
            for m in T.serial(TILE):
                row = first + m
                if row < end:
                    found[c] = found[c] + T.Cast("int64", cells[m]) * T.Cast(
                        "int64", x[base + row * heads, c * threads + t]
                    )


@T.macro
def positions_seen(begin: T.Ref, end: T.Ref, row: T.Ref, queries: Any, positions: Any, window: Any) -> None:
    """The positions that a query sees: from `begin` up to `end` (ARB-ATT-001)."""
    begin = T.int64(0)
    end = T.Cast("int64", positions)
    if window > 0:
        end = positions - queries + row + 1
        if end > window:
            begin = end - window  # noqa: F841  (a reference)


@T.macro
def queries_that_see(begin: T.Ref, end: T.Ref, row: T.Ref, queries: Any, positions: Any, window: Any) -> None:
    """The queries that see a position."""
    begin = T.int64(0)
    end = T.Cast("int64", queries)
    if window > 0:
        begin = row - positions + queries
        if begin + window < end:
            end = begin + window
        if begin < 0:
            begin = T.int64(0)
        if end < begin:  # none
            end = begin
