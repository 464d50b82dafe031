"""y = x W^T for up to 8 tokens, from packed codes (ARB-LIN-001, -003, -004): the time is that of reading the
codes, so they are read once and unpacked in registers. CUDA only.

A warp has four rows of W; its lanes have neighbouring words of 16 codes, whose 16 weights meet 16 bytes of
every token in the four-fold products of bytes that CUDA calls dp4a. No shared memory, no barrier: the tokens
come through the L1 cache, and the lanes' sums, int32 and so exact in any order, meet by shuffles at the end.
"""

from typing import Any

import tilelang.language as T
import torch

from ..launch import kernel, unchecked
from ..packing.unpacking import FIELDS, find_groups, run_packed, scaled_word, spread_bytes, spread_weights
from ..quantise.exponents import scaled_row

MOST = 8  # tokens of one pass over the codes
ROWS = 4  # of a warp
FEW_THREADS = 128
BLOCK_ROWS = FEW_THREADS // 32 * ROWS
TOKENS = (1, 2, 4, MOST)
DEPTH = 4  # words of codes that a lane has under way in each row
SPREAD = 2  # tokens for which it pays to reorder the tokens' bytes, not the weights'


@T.macro
def _sum_over_lanes(totals: Any, count: int) -> None:
    """Every lane's totals [count] become the sums over the lanes of its warp."""
    other = T.alloc_var("int32", init=0)
    for k in T.unroll(count):
        for bit in T.unroll(5):
            other = T.shfl_xor(totals[k], T.int32(1) << bit)
            totals[k] = totals[k] + other


@T.macro
def _unpack(
    weights: Any, packed: Any, at: Any, e: Any, lines: Any, unit: Any, how: Any, spread: bool
) -> None:
    """weights int32 [16] of one word in each of a warp's rows, packed[at ... at + 3]; `spread`: in the order
    of spread_word."""
    size, e_base, whole, shift_16 = how
    found = T.alloc_local((4,), "int32")
    find_groups(found, e, unit, size, whole)
    for r in T.unroll(ROWS):
        if spread:
            spread_weights(weights, 4 * r, packed[at + r], e, lines[r], found[0], e_base, shift_16)
        else:
            scaled_word(weights, 4 * r, packed[at + r], e, lines[r], found, e_base, whole)


@T.macro
def _multiply(totals: Any, k: Any, tokens: int, weights: Any, x: Any) -> None:
    """Adds the products of four rows' 16 weights with 16 bytes of token k."""
    for r in T.unroll(ROWS):
        for j in T.unroll(4):
            totals[r * tokens + k] = _dp4a(weights[4 * r + j], x[j], totals[r * tokens + k])


def _dp4a(a: Any, b: Any, total: Any) -> Any:
    """total + the sum of the products of the four bytes of a and b."""
    return T.call_extern("int32", "__dp4a", a, b, total)


@kernel
@unchecked
def few_tokens_kernel(cuda: bool, tokens: int, whole: bool) -> Any:
    """`tokens` of one pass; `whole`: no group of columns ends inside a word of codes."""
    count, rows, units = T.dynamic("count", "int64"), T.dynamic("rows", "int64"), T.dynamic("units", "int64")
    words, groups = T.dynamic("words", "int64"), T.dynamic("groups", "int64")
    spread = whole and tokens <= SPREAD

    @T.prim_func
    def few_tokens(
        q_x: T.Tensor((count, units, 4), "int32"),
        e_x: T.Tensor((count,), "int8"),
        codes: T.Tensor((rows, words), "int32"),
        e: T.Tensor((rows, groups), "int8"),
        y: T.Tensor((count, rows), "float32"),
        group_size: T.int32,
        e_base: T.int32,
        shift_16: T.int32,
    ):
        with T.Kernel(T.ceildiv(rows, BLOCK_ROWS), T.ceildiv(count, tokens), threads=FEW_THREADS) as (bo, bt):
            totals = T.alloc_local((ROWS * tokens,), "int32")
            packed, weights = T.alloc_local((DEPTH * ROWS,), "int32"), T.alloc_local((ROWS * 4,), "int32")
            x, reordered = T.alloc_local((4,), "int32"), T.alloc_local((4,), "int32")
            how = (group_size, e_base, whole, shift_16)
            lines = T.alloc_local((ROWS,), "int32")
            row, token = T.alloc_var("int32", init=0), T.alloc_var("int32", init=0)
            unit, first = T.alloc_var("int32", init=0), T.alloc_var("int32", init=0)
            for t in T.Parallel(FEW_THREADS):
                for r in T.unroll(ROWS):
                    row = bo * BLOCK_ROWS + t // 32 * ROWS + r
                    if row >= T.Cast("int32", rows):  # its sums are not stored
                        row = T.Cast("int32", rows) - 1
                    lines[r] = row
                for k in T.unroll(ROWS * tokens):
                    totals[k] = 0
                first = t % 32
                while first < T.Cast("int32", units):
                    for d in T.unroll(DEPTH):
                        for r in T.unroll(ROWS):
                            packed[d * ROWS + r] = 0
                            if first + 32 * d < T.Cast("int32", units):
                                packed[d * ROWS + r] = codes[lines[r], first + 32 * d]
                    for d in T.unroll(DEPTH):
                        unit = first + 32 * d
                        if unit < T.Cast("int32", units):
                            _unpack(weights, packed, d * ROWS, e, lines, unit, how, spread)
                            for k in T.unroll(tokens):
                                token = bt * tokens + k
                                if token >= T.Cast("int32", count):
                                    token = T.Cast("int32", count) - 1
                                for j in T.vectorized(4):
                                    x[j] = q_x[token, unit, j]
                                if spread:
                                    spread_bytes(reordered, x, 0)
                                _multiply(totals, k, tokens, weights, reordered if spread else x)
                    first = first + 32 * DEPTH
            _sum_over_lanes(totals, ROWS * tokens)
            for t in T.Parallel(FEW_THREADS):
                if t % 32 == 0:
                    for k in T.unroll(tokens):
                        for r in T.unroll(ROWS):
                            row = bo * BLOCK_ROWS + t // 32 * ROWS + r
                            token = bt * tokens + k
                            if (row < rows) & (token < count):
                                y[token, row] = scaled_row(
                                    totals[r * tokens + k], T.Cast("int32", e_x[token]), e_base
                                )

    return few_tokens


def few_tokens(q_x: torch.Tensor, *rest: Any) -> torch.Tensor:
    """As linear_forward, with its arguments, for any number of tokens, in passes of at most MOST."""
    count, group_size = len(q_x), rest[-1]
    tokens = next((n for n in TOKENS if n >= count), MOST)
    kernel_of = few_tokens_kernel(q_x.device, tokens, group_size % FIELDS == 0)
    return run_packed(kernel_of, q_x, *rest)
