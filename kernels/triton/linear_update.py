"""The whole update of a linear layer in one kernel: product over the tokens, votes, firing, exponents, codes.

The gradient lives in the accumulators of the product and never reaches memory (ARB-UPD-002). A tile holds
whole groups, so every sum that section 6 asks for is inside one program. Group sizes that no tile holds (12,
1024, ...) take the two-step way: `weight_gradient`, then `ternary_update`.

A thread of the matrix unit holds pairs of columns; everything after the product wants quads. RUNS is the way
around a transposition in registers: the rows of q_x enter the product in an order that gives each thread runs
of 16 columns, by a descriptor that sees them as [I / 64, 8, 4, 2] with the strides of [I / 64, 4, 8, 2].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from .gemm import Config, descriptor, k_major, product, tile_of
from .launch import ALIGNMENT, in_place, random_key, require_device
from .random_bits import r16
from .ternary_update import ternary_update
from .update_rules import SCALE_VOTE, VOTE, mean_bit_length, scale_step
from .update_tiles import add_quarter, changed, from_quarters, quarters, settle_quarter
from .weight_gradient import weight_gradient

FUSED_GROUPS = (32, 64, 128)
RUN = 64  # columns whose order a descriptor changes


@dataclass(frozen=True)
class UpdateConfig(Config):
    """A tile; `registers` is the most that a thread may have, None without a limit."""

    registers: int | None = None


# From the smallest extent that each is meant for. All of them give the same bits (ARB-UPD-003).
CONFIGS: tuple[tuple[int, Config], ...] = (
    (0, UpdateConfig(64, 128, 128, 4, 4)),
    (512, UpdateConfig(128, 128, 128, 8, 4)),
    (2048, UpdateConfig(128, 128, 128, 8, 3, 128)),
    (4096, UpdateConfig(128, 256, 128, 8, 4)),
)


@triton.jit
def _product_in_runs(
    a, b, m0, n0, inner, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr
):
    """`gemm.product` of a descriptor b of [N / 64, 8, 4, 2, K], columns back in their order."""
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)
    for k in range(0, inner, BLOCK_K):
        part = tl.reshape(b.load([n0 // 64, 0, 0, 0, k]), (BLOCK_N, BLOCK_K))
        total = tl.dot(a.load([m0, k]), part.T, total, out_dtype=tl.int32)
    runs = tl.reshape(total, (BLOCK_M, BLOCK_N // 64, 8, 4, 2))
    return tl.reshape(tl.permute(runs, (0, 1, 3, 2, 4)), (BLOCK_M, BLOCK_N))


@triton.jit
def _group_sums(gradient, word, code_bytes, groups, e_threshold, e_span):
    """int64 [L]: S and h of the groups [L, Q, 4] with words [L, Q / 4] of codes.

    All four conditions are true, here and in `_update_tile`. The compiler does not know: branches are what
    keeps it from working on four quarters at a time, for which there are no registers.
    """
    g0, g1, g2, g3 = quarters(gradient)
    size = tl.zeros(word.shape, tl.int64)
    along = size
    if code_bytes > 0:
        size, along = add_quarter(size, along, g0, word, 0)
    if groups > 0:
        size, along = add_quarter(size, along, g1, word, 1)
    if e_threshold > 0:
        size, along = add_quarter(size, along, g2, word, 2)
    if e_span >= 0:
        size, along = add_quarter(size, along, g3, word, 3)
    return tl.sum(size, axis=1), -tl.sum(along, axis=1)


@triton.jit
def _load_words(place, byte, valid, code_bytes):
    """Words of four bytes of codes each, zero trits where a row has ended."""
    word = tl.zeros(byte.shape, tl.int32)
    for quarter in tl.static_range(4):
        mask = valid & (byte + quarter < code_bytes)
        word |= tl.load(place + quarter, mask=mask, other=0x55).to(tl.int32) << (8 * quarter)
    return word


@triton.jit
def _store_words(place, word, byte, valid, code_bytes):
    for quarter in tl.static_range(4):
        mask = valid & (byte + quarter < code_bytes)
        tl.store(place + quarter, (word >> (8 * quarter) & 0xFF).to(tl.uint8), mask=mask)


@triton.jit
def _update_tile(
    gradient, word, accum, row, byte, rows, columns, v, gain, vote_max, threshold, step, stream, key_low,
    key_high, RULE: tl.constexpr, QUADS: tl.constexpr,
):  # fmt: skip
    """VOTE and FIRE of a tile, as `settle_quarter` does them."""
    g0, g1, g2, g3 = quarters(gradient)
    a0, a1, a2, a3 = quarters(accum)
    new0 = tl.zeros(word.shape, tl.int32)
    votes0 = new0
    stays0 = new0
    if rows > 0:
        new0, a0, votes0, stays0 = settle_quarter(
            g0, word, a0, row, byte, columns, v, gain, vote_max, threshold, step, stream, key_low, key_high,
            0, RULE, QUADS,
        )  # fmt: skip
    new1 = tl.zeros(word.shape, tl.int32)
    votes1 = new1
    stays1 = new1
    if threshold > 0:
        new1, a1, votes1, stays1 = settle_quarter(
            g1, word, a1, row, byte, columns, v, gain, vote_max, threshold, step, stream, key_low, key_high,
            1, RULE, QUADS,
        )  # fmt: skip
    new2 = tl.zeros(word.shape, tl.int32)
    votes2 = new2
    stays2 = new2
    if gain >= 0:
        new2, a2, votes2, stays2 = settle_quarter(
            g2, word, a2, row, byte, columns, v, gain, vote_max, threshold, step, stream, key_low, key_high,
            2, RULE, QUADS,
        )  # fmt: skip
    new3 = tl.zeros(word.shape, tl.int32)
    votes3 = new3
    stays3 = new3
    if columns > 0:
        new3, a3, votes3, stays3 = settle_quarter(
            g3, word, a3, row, byte, columns, v, gain, vote_max, threshold, step, stream, key_low, key_high,
            3, RULE, QUADS,
        )  # fmt: skip
    votes, stays = votes0 + votes1 + votes2 + votes3, stays0 + stays1 + stays2 + stays3
    return new0 | new1 | new2 | new3, from_quarters(a0, a1, a2, a3), votes, stays


@triton.jit(do_not_specialize=["gain", "scale_gain", "step", "stream", "key_low", "key_high"])
def linear_update_kernel(
    q_g, q_x, codes, t_accum, e, e_accum, counts,
    rows, columns, tokens, code_bytes, groups,
    e_base, e_span, gain, vote_max, threshold, scale_gain, e_threshold, step, stream, key_low, key_high,
    RULE: tl.constexpr, SIZE: tl.constexpr, QUADS: tl.constexpr, RUNS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """A tile of W [O, I], in place, from descriptors q_g [O, T] and q_x [I, T]; SIZE is the group size.

    RUNS: q_x, codes (as int32) and t_accum are descriptors, q_x one in runs. Otherwise codes and t_accum are
    pointers.
    """
    GROUPS: tl.constexpr = BLOCK_N // SIZE
    LINES: tl.constexpr = BLOCK_M * GROUPS
    QUADS_OF_GROUP: tl.constexpr = SIZE // 4
    m0, n0 = tile_of(tl.program_id(0), rows, columns, BLOCK_M, BLOCK_N, 8)
    line = tl.arange(0, LINES)
    below = line // GROUPS
    group = n0 // SIZE + line % GROUPS
    row = m0 + below
    valid = (row < rows) & (group < groups)
    if RUNS:
        total = _product_in_runs(q_g, q_x, m0, n0, tokens, BLOCK_M, BLOCK_N, BLOCK_K)
    else:
        total = product(q_g, q_x, m0, n0, tokens, BLOCK_M, BLOCK_N, BLOCK_K)
    gradient = tl.reshape(total, (LINES, QUADS_OF_GROUP, 4))

    byte = group[:, None] * QUADS_OF_GROUP + 4 * tl.arange(0, QUADS_OF_GROUP // 4)[None, :]
    # asked for before the codes, so that they come together
    e_place = row.to(tl.int64) * groups + group
    old_e = tl.load(e + e_place, mask=valid, other=0)
    old_votes = tl.load(e_accum + e_place, mask=valid, other=0)
    if RUNS:
        word = tl.reshape(codes.load([m0, n0 // 16]), (LINES, QUADS_OF_GROUP // 4))
        accum = tl.reshape(t_accum.load([m0, n0]), (LINES, QUADS_OF_GROUP, 4))
    else:
        code_place = codes + m0.to(tl.int64) * code_bytes + (below[:, None] * code_bytes + byte)
        word = _load_words(code_place, byte, valid[:, None], code_bytes)
        column = group[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
        inside = valid[:, None] & (column < columns)
        accum_place = t_accum + m0.to(tl.int64) * columns + (below[:, None] * columns + column)
        accum = tl.reshape(tl.load(accum_place, mask=inside, other=0), (LINES, QUADS_OF_GROUP, 4))

    size, h = _group_sums(gradient, word, code_bytes, groups, e_threshold, e_span)
    # drawn where old_e was loaded, not in every thread that holds a line
    drawn = r16(e_place + ((old_e.to(tl.int32) & 0xFF) >> 8), step, stream + SCALE_VOTE, key_low, key_high)
    new_e, new_votes, scale_vote = scale_step(
        old_e.to(tl.int32),
        old_votes.to(tl.int32),
        h,
        size,
        drawn,
        scale_gain,
        e_threshold,
        e_base,
        e_span,
        127,
    )
    # several threads hold the same row: all have read it before one writes it
    tl.debug_barrier()
    tl.store(e + e_place, new_e.to(tl.int8), mask=valid)
    tl.store(e_accum + e_place, new_votes.to(tl.int8), mask=valid)
    count = tl.maximum(tl.minimum(columns - group * SIZE, SIZE), 1)
    v = mean_bit_length(size, count)
    # not another word, but the compiler cannot know and decodes it again instead of keeping what it decoded
    word = word ^ (gain >> 25)
    new, accum, votes, stays = _update_tile(
        gradient, word, accum, row, byte, rows, columns, v, gain, vote_max, threshold, step, stream + VOTE,
        key_low, key_high, RULE, QUADS,
    )  # fmt: skip
    # outside the matrix nothing votes, and a threshold that empty accumulators meet does not exist
    if RUNS:
        codes.store([m0, n0 // 16], tl.reshape(new, (BLOCK_M, BLOCK_N // 16)))
        t_accum.store([m0, n0], tl.reshape(accum, (BLOCK_M, BLOCK_N)))
    else:
        tl.debug_barrier()
        _store_words(code_place, new, byte, valid[:, None], code_bytes)
        tl.store(accum_place, tl.reshape(accum, (LINES, SIZE)), mask=inside)

    # two numbers in one sum: a tile has less than 2^16 elements
    first = tl.sum(tl.sum(votes + ((16 + stays) << 16), axis=1), axis=0)
    moved = tl.sum(changed(word, new), axis=1) + ((valid & (scale_vote != 0)).to(tl.int32) << 16)
    second = tl.sum(moved, axis=0)
    tl.atomic_add(counts, (first & 0xFFFF).to(tl.int64), sem="relaxed")
    tl.atomic_add(counts + 1, ((first >> 16) & 0xFFFF).to(tl.int64), sem="relaxed")
    tl.atomic_add(counts + 2, (second & 0xFFFF).to(tl.int64), sem="relaxed")
    tl.atomic_add(counts + 3, ((second >> 16) & 0xFFFF).to(tl.int64), sem="relaxed")
    tl.atomic_add(
        counts + 4, tl.sum((valid & (new_e != old_e)).to(tl.int32), axis=0).to(tl.int64), sem="relaxed"
    )


def config_for(rows: int, columns: int) -> Config:
    """The tile for a matrix of that size: large ones where they fill the device."""
    smaller = min(rows, columns)
    return [config for least, config in CONFIGS if least <= smaller][-1]


def _in_runs(q_x: torch.Tensor, c: Config) -> TensorDescriptor:
    """A descriptor of K-major q_x [I, T] whose blocks hold rows in the order that RUNS wants."""
    columns, tokens = q_x.shape
    stride = max(q_x.stride(0), ALIGNMENT)
    shape = [columns // RUN, 8, 4, 2, tokens]
    strides = [RUN * stride, 2 * stride, 16 * stride, stride, 1]
    return TensorDescriptor(q_x, shape, strides, [c.block_n // RUN, 8, 4, 2, c.block_k])


def _words(codes: torch.Tensor, c: Config) -> TensorDescriptor:
    """A descriptor of codes as int32, a run of 16 each."""
    words = codes.view(torch.int32)
    return TensorDescriptor(words, list(words.shape), list(words.stride()), [c.block_m, c.block_n // 16])


def fused_update(
    q_g: torch.Tensor, q_x: torch.Tensor, state: tuple[torch.Tensor, ...], how: tuple[Any, ...], c: Config
) -> torch.Tensor:
    """One launch with that tile; operands K-major [O, T] and [I, T], state contiguous -> counts int64 [5]."""
    e_base, e_span, group_size, rule, gain, vote_max, threshold, scale_gain, e_threshold, *random = how
    seed, tensor_id, step = random
    (rows, tokens), columns = q_g.shape, q_x.shape[0]
    codes, t_accum, e, e_accum = state
    counts = torch.zeros(5, dtype=torch.int64, device=q_g.device)
    grid = (triton.cdiv(rows, c.block_m) * triton.cdiv(columns, c.block_n),)
    runs = columns % RUN == 0 and codes.data_ptr() % ALIGNMENT == 0 and t_accum.data_ptr() % ALIGNMENT == 0
    linear_update_kernel[grid](
        descriptor(q_g, (c.block_m, c.block_k)),
        _in_runs(q_x, c) if runs else descriptor(q_x, (c.block_n, c.block_k)),
        _words(codes, c) if runs else codes,
        descriptor(t_accum, (c.block_m, c.block_n)) if runs else t_accum,
        e,
        e_accum,
        counts,
        rows,
        columns,
        tokens,
        codes.shape[1],
        e.shape[1],
        e_base,
        e_span,
        gain,
        vote_max,
        threshold,
        scale_gain,
        e_threshold,
        *random_key(seed, step, 16 * tensor_id),
        RULE=rule,
        SIZE=group_size,
        QUADS=columns % 4 == 0,
        RUNS=runs,
        BLOCK_M=c.block_m,
        BLOCK_N=c.block_n,
        BLOCK_K=c.block_k,
        num_warps=c.warps,
        num_stages=c.stages,
        maxnreg=getattr(c, "registers", None),
    )
    return counts


def linear_update(
    q_g: torch.Tensor,
    q_x: torch.Tensor,
    codes: torch.Tensor,
    t_accum: torch.Tensor,
    e: torch.Tensor,
    e_accum: torch.Tensor,
    *how: Any,
) -> torch.Tensor:
    """q_g int8 [T, O], q_x int8 [T, I]; codes, t_accum, e, e_accum in place; `how` as in the specification ->
    counts int64 [5]. Fastest when the operands' memory is [O, T] and [I, T]."""
    require_device("linear_update", q_g)
    rows, columns = q_g.shape[1], q_x.shape[1]
    # offsets in a tile are int32, and so is the index of a quad of random bits
    if how[2] not in FUSED_GROUPS or columns > 2**23 or rows * columns > 2**34:
        return ternary_update(weight_gradient(q_g, q_x), codes, t_accum, e, e_accum, *how)
    with in_place(codes, t_accum, e, e_accum) as state:
        return fused_update(k_major(q_g.t()), k_major(q_x.t()), state, how, config_for(rows, columns))
