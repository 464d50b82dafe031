"""Bytes [R, C] to their transpose in memory, on CUDA."""

from typing import Any

import tilelang.language as T
import torch

from ..launch import kernel, unchecked
from .turning import (
    LINE,
    TILE_ROWS,
    TURNING_THREADS,
    UNITS,
    four_of,
    store_turned,
    turn_four,
    unit_of,
    unit_words,
)

BYTES = 16  # columns of a unit


@kernel
@unchecked
def transposing_kernel(cuda: bool, words: int) -> Any:
    """A tile of 64 rows by 256 columns; `words` that one load takes: 4 where rows start at multiples of 16
    bytes, else 1."""
    rows, loads, lines, pieces = (T.dynamic(name, "int64") for name in ("rows", "loads", "lines", "pieces"))

    @T.prim_func
    def transposed(q: T.Tensor((rows, loads, words), "int32"), q_t: T.Tensor((lines, pieces, 4), "int32")):
        down, across = T.ceildiv(rows, TILE_ROWS), T.ceildiv(lines, UNITS * BYTES)
        with T.Kernel(down, across, threads=TURNING_THREADS) as (bo, bi):
            turned = T.alloc_shared((UNITS * unit_words(BYTES),), "int32")
            found = T.alloc_local((16,), "int32")
            row, load = T.alloc_var("int32", init=0), T.alloc_var("int32", init=0)
            for t in T.Parallel(TURNING_THREADS):
                for r in T.unroll(4):
                    row = bo * TILE_ROWS + four_of(t) * 4 + r
                    for k in T.unroll(4 // words):
                        load = (bi * UNITS + unit_of(t)) * (4 // words) + k
                        for j in T.unroll(words):
                            found[4 * r + words * k + j] = 0
                        if (row < rows) & (load < loads):
                            for j in T.vectorized(words):
                                found[4 * r + words * k + j] = q[row, load, j]
                for j in T.unroll(4):
                    place = unit_of(t) * unit_words(BYTES) + j * 4 * LINE + four_of(t)
                    turn_four(turned, place, found, j, 4)
            store_turned(turned, q_t, BYTES, bi * UNITS * BYTES, bo * (LINE // 4))

    return transposed


def transpose(q: torch.Tensor, q_t: torch.Tensor) -> None:
    """q int8 [R, C'], contiguous, C' a multiple of 4 -> q_t int8 [C, R'], R' a multiple of 16; zeros behind R
    in q_t."""
    words = q.view(torch.int32)
    per_load = 4 if words.shape[1] % 4 == 0 else 1
    transposing_kernel(q.device, per_load)(
        words.view(len(q), -1, per_load), q_t.view(torch.int32).view(len(q_t), -1, 4)
    )
