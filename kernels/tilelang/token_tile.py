"""y = x W^T for 9 to 32 tokens, from packed codes (ARB-LIN-001, -003, -004): the tokens, 16 or 32 with those
that are not there, are the columns of wgmma's tile, and 64 rows of W, unpacked to shared memory, its rows.
CUDA only.

Codes are read once, a step ahead of the product, into registers. The tiles are written by threads and read by
the tensor cores, which see memory through a proxy of their own: hence the fence before the barrier.
"""

from typing import Any

import tilelang.language as T
import torch

from .exponents import scaled_row
from .launch import k_major, kernel, unchecked
from .unpacking import FIELDS, find_groups, run_packed, scaled_word

ROWS, WORDS = 64, 32  # of codes in a step: 128 bytes of 64 rows
TILE_THREADS = 128
TURNS = ROWS * WORDS // TILE_THREADS  # words of a thread
SIDE = TILE_THREADS // WORDS  # rows, or tokens, that the block has side by side
TOKENS = (16, 32)


@T.macro
def _row(row: T.Ref, first_row: Any, r: int, rows: Any) -> None:
    """row = the r-th of a thread's rows; the last row of W behind it: its products are not stored."""
    row = first_row + r * SIDE
    if row >= T.Cast("int32", rows):
        row = T.Cast("int32", rows) - 1


@T.macro
def _load_codes(packed: Any, codes: Any, first_row: Any, unit: Any, units: Any) -> None:
    """packed [TURNS]: that word of each of a thread's rows."""
    row = T.alloc_var("int32", init=0)
    for r in T.unroll(TURNS):
        _row(row, first_row, r, codes.shape[0])
        packed[r] = 0
        if unit < units:
            packed[r] = codes[row, unit]


@T.macro
def _store_weights(w_tile: Any, packed: Any, e: Any, first_row: Any, unit: Any, t: Any, how: Any) -> None:
    """The weights of those words into w_tile. Behind the columns they may be anything: the tokens are 0."""
    group_size, e_base, whole = how
    weights, found = T.alloc_local((4,), "int32"), T.alloc_local((4,), "int32")
    bytes_of = T.view(weights, (FIELDS,), "int8")
    row = T.alloc_var("int32", init=0)
    find_groups(found, e, unit, group_size, whole)
    for r in T.unroll(TURNS):
        _row(row, first_row, r, e.shape[0])
        scaled_word(weights, 0, packed[r], e, row, found, e_base, whole)
        for j in T.vectorized(FIELDS):
            w_tile[r * SIDE + t // WORDS, t % WORDS * FIELDS + j] = bytes_of[j]


@T.macro
def _store_tokens(x_tile: Any, q_x: Any, tokens: int, unit: Any, units: Any, t: Any) -> None:
    """16 bytes of each token into x_tile; zeros behind the tokens and the columns."""
    x = T.alloc_local((FIELDS,), "int8")
    token = T.alloc_var("int32", init=0)
    for r in T.unroll(tokens // SIDE):
        token = r * SIDE + t // WORDS
        for j in T.vectorized(FIELDS):
            x[j] = T.int8(0)
        if (token < T.Cast("int32", q_x.shape[0])) & (unit < units):
            for j in T.vectorized(FIELDS):
                x[j] = q_x[token, unit, j]
        for j in T.vectorized(FIELDS):
            x_tile[r * SIDE + t // WORDS, t % WORDS * FIELDS + j] = x[j]


@kernel
@unchecked
def token_tile_kernel(cuda: bool, tokens: int, whole: bool) -> Any:
    """A block has 64 rows of W and all tokens. `whole`: no group of columns ends inside a word of codes."""
    count, rows, units = T.dynamic("count", "int64"), T.dynamic("rows", "int64"), T.dynamic("units", "int64")
    words, groups = T.dynamic("words", "int64"), T.dynamic("groups", "int64")

    @T.prim_func
    def token_tile(
        q_x: T.Tensor((count, units, FIELDS), "int8"),
        e_x: T.Tensor((count,), "int8"),
        codes: T.Tensor((rows, words), "int32"),
        e: T.Tensor((rows, groups), "int8"),
        y: T.Tensor((count, rows), "float32"),
        group_size: T.int32,
        e_base: T.int32,
    ):
        with T.Kernel(T.ceildiv(rows, ROWS), threads=TILE_THREADS) as bo:
            w_tile = T.alloc_shared((ROWS, WORDS * FIELDS), "int8")
            x_tile = T.alloc_shared((tokens, WORDS * FIELDS), "int8")
            total = T.alloc_fragment((ROWS, tokens), "int32")
            packed = T.alloc_local((TURNS,), "int32")
            first, unit, width = (T.alloc_var("int32", init=0) for _ in range(3))
            width = T.Cast("int32", units)
            T.clear(total)
            for t in T.Parallel(TILE_THREADS):
                first = bo * ROWS + t // WORDS
                unit = t % WORDS
                _load_codes(packed, codes, first, unit, width)
            for _ in T.serial(T.ceildiv(T.Cast("int32", units), WORDS)):
                for t in T.Parallel(TILE_THREADS):
                    _store_weights(w_tile, packed, e, first, unit, t, (group_size, e_base, whole))
                    _store_tokens(x_tile, q_x, tokens, unit, width, t)
                T.fence_proxy_async()
                for _t in T.Parallel(TILE_THREADS):
                    unit = unit + WORDS
                    _load_codes(packed, codes, first, unit, width)
                T.gemm(w_tile, x_tile, total, transpose_B=True)
            for i, j in T.Parallel(ROWS, tokens):
                if (bo * ROWS + i < rows) and (j < count):
                    y[j, bo * ROWS + i] = scaled_row(total[i, j], T.Cast("int32", e_x[j]), e_base)

    return token_tile


def token_tile(q_x: torch.Tensor, *rest: Any) -> torch.Tensor:
    """As linear_forward, with its arguments, for at most 32 tokens."""
    count, group_size = len(q_x), rest[-1]
    tokens = next(n for n in TOKENS if n >= count)
    kernel_of = token_tile_kernel(q_x.device, tokens, group_size % FIELDS == 0)
    return run_packed(kernel_of, q_x, k_major(q_x).view(count, -1, FIELDS), *rest)
