"""y = x W^T for 9 to 32 tokens, from packed codes (ARB-LIN-001, -003, -004): 64 rows of W are the rows of
wgmma's tile and the tokens, 16 or 32 with those that are not there, its columns. CUDA only.

W goes from memory to registers and stays there: wgmma takes its left operand from registers, and any order of
the columns does where the tokens have the same. So a lane reads neighbouring words of codes of the two rows
that the instruction wants of it, and the tokens, in shared memory, are put in the order in which words fall
apart into weights. The two warp groups of a block have the same rows and take turns at the columns.
"""

from typing import Any

import tilelang.language as T
import torch

from ..launch import kernel, unchecked
from ..packing.unpacking import FIELDS, find_groups, run_packed, scaled_word, spread_bytes, spread_weights
from ..quantise.exponents import scaled_row

ROWS = 64  # of W, of a block
GROUP_THREADS = 128  # of a warp group
WARP_GROUPS = 2
TILE_THREADS = WARP_GROUPS * GROUP_THREADS
HALF = 16  # units, that is words of codes, of half a warp group's step: four for each lane of a row
UNITS = WARP_GROUPS * 2 * HALF  # of a block's step
LINES = 4  # of 128 bytes: a token in a warp group's step
TOKENS = (16, 32)
SPANS = (4, FIELDS, 4 * FIELDS)  # what a group of columns may be a multiple of


@T.macro
def _load_codes(packed: Any, half: int, codes: Any, lines: Any, quad: Any) -> None:
    """packed int32 [half, 2, 4] = that quad of words of a lane's two rows, 0 behind the last."""
    for r in T.unroll(2):
        for j in T.vectorized(4):
            packed[half * 8 + r * 4 + j] = 0
        if quad < T.Cast("int32", codes.shape[1]):
            for j in T.vectorized(4):
                packed[half * 8 + r * 4 + j] = codes[lines[r], quad, j]


@T.macro
def _weights(out: Any, word: Any, e: Any, row: Any, found: Any, how: Any) -> None:
    """out int32 [4] = 16 weights in the order of spread_word."""
    e_base, span, shift_16 = how[1], how[2], how[3]
    if span >= FIELDS:
        spread_weights(out, 0, word, e, row, found[0], e_base, shift_16)
    else:
        weights = T.alloc_local((4,), "int32")
        scaled_word(weights, 0, word, e, row, found, e_base, False)
        spread_bytes(out, weights, 0)


@T.macro
def _unpack(a: Any, half: int, packed: Any, e: Any, lines: Any, unit: Any, how: Any) -> None:
    """a int32 [half, 8, 4]: wgmma's left operands, a lane's part, of the words of _load_codes. Two of each
    word: first the even columns of both rows, then the odd."""
    group_size, span = how[0], how[2]
    found, out = T.alloc_local((4,), "int32"), T.alloc_local((4,), "int32")
    for j in T.unroll(4):
        if (span < 4 * FIELDS) or j == 0:
            find_groups(found, e, unit + j, group_size, span >= FIELDS)
        for r in T.unroll(2):
            _weights(out, packed[half * 8 + r * 4 + j], e, lines[r], found, how)
            for p in T.unroll(4):
                a[half * 32 + j * 8 + p // 2 * 4 + p % 2 * 2 + r] = out[p]


@T.macro
def _load_tokens(x: Any, q_x: Any, tokens: int, unit: Any, t: Any) -> None:
    """x int32 [tokens / 16, 4, 4]: the units unit, + 4, + 8, + 12 of a thread's tokens; 0 behind the last
    token and column."""
    for n in T.unroll(tokens // 16):
        for q in T.unroll(4):
            for j in T.vectorized(4):
                x[n * 16 + q * 4 + j] = 0
            present = n * 16 + t % 16 < T.Cast("int32", q_x.shape[0])
            if present & (unit + 4 * q < T.Cast("int32", q_x.shape[1])):
                for j in T.vectorized(4):
                    x[n * 16 + q * 4 + j] = q_x[n * 16 + t % 16, unit + 4 * q, j]


@T.macro
def _store_tokens(x_tile: Any, first: Any, x: Any, tokens: int, t: Any) -> None:
    """Those units into x_tile int32, a warp group's step of it from `first`, in wgmma's 128-byte swizzle:
    [4, tokens, 8, 4], where the 16 bytes c of token n have place c xor n % 8."""
    spread = T.alloc_local((16,), "int32")
    line, out = T.alloc_local((4,), "int32"), T.alloc_local((4,), "int32")
    chunk = T.alloc_var("int32", init=0)
    for n in T.unroll(tokens // 16):
        for q in T.unroll(4):
            spread_bytes(out, x, n * 16 + q * 4)
            for p in T.unroll(4):
                spread[p * 4 + q] = out[p]
        for p in T.unroll(4):
            chunk = (t // 16 % 2 * 4 + p) ^ (t % 8)
            for q in T.unroll(4):
                line[q] = spread[p * 4 + q]
            for q in T.vectorized(4):
                x_tile[first + t // 32 * tokens + n * 16 + t % 16, chunk, q] = line[q]


@T.macro
def _multiply(total: Any, a: Any, half: int, desc: Any, tokens: int) -> None:
    """Adds the products of half a step, without waiting for them."""
    T.warpgroup_arrive()
    for k in T.unroll(8):
        T.ptx_wgmma_rs(
            "int32",
            f"m64n{tokens}k32",
            True,
            "int8",
            "int8",
            "int32",
            a.data,
            half * 32 + k * 4,
            desc.data,
            ((half * 2 + k // 4) * tokens * 128 + k % 4 * 32) // 16,
            total.data,
            0,
            1,
            1,
            1,
        )
    T.warpgroup_commit_batch()


@T.macro
def _find_lines(lines: Any, row: T.Ref, bo: Any, t: Any, rows: Any) -> None:
    """lines int32 [2]: the rows of W that wgmma wants of a lane; the last one behind it, whose sums are not
    stored."""
    for r in T.unroll(2):
        row = bo * ROWS + t // 32 * 16 + t % 32 // 4 + r * 8
        if row >= T.Cast("int32", rows):
            row = T.Cast("int32", rows) - 1
        lines[r] = row


@T.macro
def _store_sums(
    y: Any, total: Any, x_tile: Any, e_x: Any, row: T.Ref, token: T.Ref, bo: Any, t: Any, how: Any
) -> None:
    """y [T, O] of the first warp group's sums and the second's, which meet in shared memory."""
    group, tokens, e_base = how
    T.sync_threads()
    if group == 1:
        for i in T.unroll(tokens // 2):
            x_tile[i * 4 + t // 32, t % 32 // 4, t % 4] = total[i]
    T.sync_threads()
    if group == 0:
        for i in T.unroll(tokens // 2):
            row = bo * ROWS + t // 32 * 16 + t % 32 // 4 + i % 4 // 2 * 8
            token = i // 4 * 8 + t % 4 * 2 + i % 2
            if (row < T.Cast("int32", y.shape[1])) & (token < T.Cast("int32", y.shape[0])):
                total[i] = total[i] + x_tile[i * 4 + t // 32, t % 32 // 4, t % 4]
                y[token, row] = scaled_row(total[i], T.Cast("int32", e_x[token]), e_base)


@kernel
@unchecked
def token_tile_kernel(cuda: bool, tokens: int, span: int) -> Any:
    """A block has 64 rows of W and all tokens. `span` divides the size of a group of columns."""
    count, rows, units = T.dynamic("count", "int64"), T.dynamic("rows", "int64"), T.dynamic("units", "int64")
    quads, groups = T.dynamic("quads", "int64"), T.dynamic("groups", "int64")

    @T.prim_func
    def token_tile(
        q_x: T.Tensor((count, units, 4), "int32"),
        e_x: T.Tensor((count,), "int8"),
        codes: T.Tensor((rows, quads, 4), "int32"),
        e: T.Tensor((rows, groups), "int8"),
        y: T.Tensor((count, rows), "float32"),
        group_size: T.int32,
        e_base: T.int32,
        shift_16: T.int32,
    ):
        with T.Kernel(T.ceildiv(rows, ROWS), threads=TILE_THREADS) as bo:
            x_tile = T.alloc_shared((2 * WARP_GROUPS * tokens * LINES, 8, 4), "int32")
            T.annotate_min_blocks_per_sm(2 if span >= FIELDS else 1)
            total, a = T.alloc_local((tokens // 2,), "int32"), T.alloc_local((64,), "int32")
            packed, x = T.alloc_local((16,), "int32"), T.alloc_local((tokens,), "int32")
            lines = T.alloc_local((2,), "int32")
            row, token = T.alloc_var("int32", init=0), T.alloc_var("int32", init=0)
            unit, x_unit, first = (T.alloc_var("int32", init=0) for _ in range(3))
            desc = T.alloc_wgmma_desc()
            how = (group_size, e_base, span, shift_16)
            thread = T.get_thread_binding()
            t = thread % GROUP_THREADS
            group = thread // GROUP_THREADS
            same = T.alloc_var("int32", init=0)  # the group, seen by the compiler to be one for a warp
            same = T.call_extern("int32", "__shfl_sync", -1, group, 0)
            for i in T.unroll(tokens // 2):
                total[i] = 0
            _find_lines(lines, row, bo, t, rows)
            unit = group * 2 * HALF + t % 4 * 4
            x_unit = group * 2 * HALF + t // 64 * HALF + t // 16 % 4
            first = group * tokens * LINES
            for half in T.unroll(2):
                _load_codes(packed, half, codes, lines, unit // 4 + half * 4)
            _load_tokens(x, q_x, tokens, x_unit, t)
            _store_tokens(x_tile, first, x, tokens, t)
            _load_tokens(x, q_x, tokens, x_unit + UNITS, t)
            for step in T.serial(T.ceildiv(T.Cast("int32", units), UNITS)):
                T.fence_proxy_async()
                T.sync_threads()
                first = ((step + 1) % 2 * WARP_GROUPS + group) * (tokens * LINES)
                x_unit = x_unit + UNITS
                _store_tokens(x_tile, first, x, tokens, t)
                _load_tokens(x, q_x, tokens, x_unit + UNITS, t)
                T.initialize_wgmma_descriptor(desc, x_tile.access_ptr("r"), 1, 1, 64)
                T.increase_descriptor_offset(desc, (step % 2 * WARP_GROUPS + same) * (tokens * LINES * 128))
                T.warpgroup_fence_operand(total)
                for half in T.unroll(2):
                    _unpack(a, half, packed, e, lines, unit + half * HALF, how)
                    _load_codes(packed, half, codes, lines, (unit + UNITS) // 4 + half * 4)
                    T.warpgroup_fence_operand(a, half * 32, 32)
                    _multiply(total, a, half, desc, tokens)
                unit = unit + UNITS
                T.warpgroup_wait(0)
                T.warpgroup_fence_operand(total)
                T.warpgroup_fence_operand(a)
            _store_sums(y, total, x_tile, e_x, row, token, bo, t, (group, tokens, e_base))

    return token_tile


def token_tile(q_x: torch.Tensor, *rest: Any) -> torch.Tensor:
    """As linear_forward, with its arguments, for at most 32 tokens."""
    count, group_size = len(q_x), rest[-1]
    tokens = next(n for n in TOKENS if n >= count)
    span = max(n for n in SPANS if group_size % n == 0)
    return run_packed(token_tile_kernel(q_x.device, tokens, span), q_x, *rest, quads=True)
