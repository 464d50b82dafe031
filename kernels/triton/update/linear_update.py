"""The whole update of a linear layer in one kernel: product over the tokens, votes, firing, exponents, codes.

The gradient lives in the accumulators of the product and never reaches memory (ARB-UPD-002). A tile holds
whole groups, so every sum that section 6 asks for is inside one program. Group sizes that no tile holds (12,
1024, ...) and rows that do not come in runs take the two-step way: `weight_gradient`, then `ternary_update`.

A thread of the matrix unit holds pairs of columns; everything after the product wants quads. So the rows of
q_x enter the product in an order that gives each thread runs of 16 columns, by a descriptor that sees them as
[I / 64, 8, 4, 2] with the strides of [I / 64, 4, 8, 2], and nothing is transposed in registers.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from ..launch import ALIGNMENT, in_place, random_key, require_device
from ..linear.gemm import Config, descriptor, k_major, tile_of
from ..linear.weight_gradient import weight_gradient
from .rules import SCALE_VOTE, VOTE, mean_bit_length
from .ternary_update import group_update, settle_exponents
from .tiles import changed, from_quarters, quarter_sums, quarters, settle_quarter

FUSED_GROUPS = (32, 64, 128)
RUN = 64  # columns whose order a descriptor changes


# From the smallest extent that each is meant for. All of them give the same bits (ARB-UPD-003).
CONFIGS: tuple[tuple[int, Config], ...] = (
    (0, Config(64, 128, 128, 4, 4)),
    (2048, Config(256, 128, 128, 8, 4)),
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
def _group_sums(gradient, word):
    """int64 [L]: S and h of the groups [L, Q, 4] with words [L, Q / 4] of codes."""
    g0, g1, g2, g3 = quarters(gradient)
    size0, along0 = quarter_sums(g0, word, 0)
    size1, along1 = quarter_sums(g1, word, 1)
    size2, along2 = quarter_sums(g2, word, 2)
    size3, along3 = quarter_sums(g3, word, 3)
    return tl.sum(size0 + size1 + size2 + size3, axis=1), -tl.sum(along0 + along1 + along2 + along3, axis=1)


@triton.jit
def _update_tile(
    gradient, word, accum, row, byte, columns, v, gain, vote_max, threshold, step, stream, key_low, key_high,
    RULE: tl.constexpr,
):  # fmt: skip
    """VOTE and FIRE of a tile, as `settle_quarter` does them.

    All four conditions are true. The compiler does not know: branches are what keeps it from working on four
    quarters at a time, for which there are no registers.
    """
    g0, g1, g2, g3 = quarters(gradient)
    a0, a1, a2, a3 = quarters(accum)
    new0 = tl.zeros(word.shape, tl.int32)
    votes0 = new0
    stays0 = new0
    if vote_max > 0:
        new0, a0, votes0, stays0 = settle_quarter(
            g0, word, a0, row, byte, columns, v, gain, vote_max, threshold, step, stream, key_low, key_high,
            0, RULE,
        )  # fmt: skip
    new1 = tl.zeros(word.shape, tl.int32)
    votes1 = new1
    stays1 = new1
    if threshold > 0:
        new1, a1, votes1, stays1 = settle_quarter(
            g1, word, a1, row, byte, columns, v, gain, vote_max, threshold, step, stream, key_low, key_high,
            1, RULE,
        )  # fmt: skip
    new2 = tl.zeros(word.shape, tl.int32)
    votes2 = new2
    stays2 = new2
    if gain >= 0:
        new2, a2, votes2, stays2 = settle_quarter(
            g2, word, a2, row, byte, columns, v, gain, vote_max, threshold, step, stream, key_low, key_high,
            2, RULE,
        )  # fmt: skip
    new3 = tl.zeros(word.shape, tl.int32)
    votes3 = new3
    stays3 = new3
    if columns > 0:
        new3, a3, votes3, stays3 = settle_quarter(
            g3, word, a3, row, byte, columns, v, gain, vote_max, threshold, step, stream, key_low, key_high,
            3, RULE,
        )  # fmt: skip
    votes, stays = votes0 + votes1 + votes2 + votes3, stays0 + stays1 + stays2 + stays3
    return new0 | new1 | new2 | new3, from_quarters(a0, a1, a2, a3), votes, stays


@triton.jit(do_not_specialize=["gain", "scale_gain", "step", "stream", "key_low", "key_high"])
def linear_update_kernel(
    q_g, q_x, codes, t_accum, e, e_accum, counts,
    rows, columns, tokens, groups,
    e_base, e_span, gain, vote_max, threshold, scale_gain, e_threshold, step, stream, key_low, key_high,
    RULE: tl.constexpr, SIZE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """A tile of W [O, I], in place, from descriptors: q_g [O, T], q_x [I, T] in runs, codes as int32
    [O, I / 16] and t_accum [O, I]. SIZE is the group size; a tile is seen as a line a group."""
    GROUPS: tl.constexpr = BLOCK_N // SIZE
    LINES: tl.constexpr = BLOCK_M * GROUPS
    QUADS_OF_GROUP: tl.constexpr = SIZE // 4
    m0, n0 = tile_of(tl.program_id(0), rows, columns, BLOCK_M, BLOCK_N, 8)
    total = _product_in_runs(q_g, q_x, m0, n0, tokens, BLOCK_M, BLOCK_N, BLOCK_K)
    gradient = tl.reshape(total, (LINES, QUADS_OF_GROUP, 4))

    line = tl.arange(0, LINES)
    group = n0 // SIZE + line % GROUPS
    row = m0 + line // GROUPS
    valid = (row < rows) & (group < groups)
    byte = group[:, None] * QUADS_OF_GROUP + 4 * tl.arange(0, QUADS_OF_GROUP // 4)[None, :]
    word = tl.reshape(codes.load([m0, n0 // 16]), (LINES, QUADS_OF_GROUP // 4))
    accum = tl.reshape(t_accum.load([m0, n0]), (LINES, QUADS_OF_GROUP, 4))

    size, h = _group_sums(gradient, word)
    scale_voted, e_moved = settle_exponents(
        row.to(tl.int64), group, valid, size, h, e, e_accum, groups, scale_gain, e_threshold, e_base, e_span,
        step, stream + SCALE_VOTE, key_low, key_high, 127,
    )  # fmt: skip
    count = tl.maximum(tl.minimum(columns - group * SIZE, SIZE), 1)
    v = mean_bit_length(size, count)
    # read again, so that the first decoding is not kept
    word = tl.reshape(codes.load([m0, n0 // 16]), (LINES, QUADS_OF_GROUP // 4))
    new, accum, votes, stays = _update_tile(
        gradient, word, accum, row, byte, columns, v, gain, vote_max, threshold, step, stream + VOTE,
        key_low, key_high, RULE,
    )  # fmt: skip
    # outside the matrix nothing votes, and a threshold that empty accumulators meet does not exist
    codes.store([m0, n0 // 16], tl.reshape(new, (BLOCK_M, BLOCK_N // 16)))
    t_accum.store([m0, n0], tl.reshape(accum, (BLOCK_M, BLOCK_N)))

    # two numbers in one sum: a tile has less than 2^16 elements
    first = tl.sum(tl.sum(votes + ((16 + stays) << 16), axis=1), axis=0)
    moved = tl.sum(changed(word, new), axis=1) + (scale_voted.to(tl.int32) << 16)
    second = tl.sum(moved, axis=0)
    tl.atomic_add(counts, (first & 0xFFFF).to(tl.int64), sem="relaxed")
    tl.atomic_add(counts + 1, ((first >> 16) & 0xFFFF).to(tl.int64), sem="relaxed")
    tl.atomic_add(counts + 2, (second & 0xFFFF).to(tl.int64), sem="relaxed")
    tl.atomic_add(counts + 3, ((second >> 16) & 0xFFFF).to(tl.int64), sem="relaxed")
    tl.atomic_add(counts + 4, tl.sum(e_moved.to(tl.int32), axis=0).to(tl.int64), sem="relaxed")


def configs_of(group_size: int) -> tuple[tuple[int, Config], ...]:
    """The tiles for groups of that size; the large one has registers for groups as long as its rows only."""
    return tuple(entry for entry in CONFIGS if entry[0] == 0 or entry[1].block_n == group_size)


def config_for(rows: int, columns: int, group_size: int) -> Config:
    """The tile for a matrix of that size: large ones where they fill the device."""
    smaller = min(rows, columns)
    return [config for least, config in configs_of(group_size) if least <= smaller][-1]


def _in_runs(q_x: torch.Tensor, c: Config) -> TensorDescriptor:
    """A descriptor of K-major q_x [I, T] whose blocks hold rows in the order that gives runs."""
    columns, tokens = q_x.shape
    stride = max(q_x.stride(0), ALIGNMENT)
    shape = [columns // RUN, 8, 4, 2, tokens]
    strides = [RUN * stride, 2 * stride, 16 * stride, stride, 1]
    return TensorDescriptor(q_x, shape, strides, [c.block_n // RUN, 8, 4, 2, c.block_k])


def _words(codes: torch.Tensor, c: Config) -> TensorDescriptor:
    """A descriptor of codes as int32, a run of 16 each."""
    words = codes.view(torch.int32)
    return TensorDescriptor(words, list(words.shape), list(words.stride()), [c.block_m, c.block_n // 16])


def _comes_in_runs(rows: int, columns: int, state: tuple[torch.Tensor, ...]) -> bool:
    """Whether descriptors can have rows of state in runs, and 32 bits the index of a quad of random bits."""
    aligned = all(tensor.data_ptr() % ALIGNMENT == 0 for tensor in state[:2])
    return columns % RUN == 0 and aligned and rows * columns <= 2**34


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
    linear_update_kernel[grid](
        descriptor(q_g, (c.block_m, c.block_k)),
        _in_runs(q_x, c),
        _words(codes, c),
        descriptor(t_accum, (c.block_m, c.block_n)),
        e,
        e_accum,
        counts,
        rows,
        columns,
        tokens,
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
        BLOCK_M=c.block_m,
        BLOCK_N=c.block_n,
        BLOCK_K=c.block_k,
        num_warps=c.warps,
        num_stages=c.stages,
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
    with in_place(codes, t_accum, e, e_accum) as state:
        if how[2] in FUSED_GROUPS and _comes_in_runs(rows, columns, state):
            config = config_for(rows, columns, how[2])
            return fused_update(k_major(q_g.t()), k_major(q_x.t()), state, how, config)
        return group_update(weight_gradient(q_g, q_x), state, how)
