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
from .ternary_update import settle_exponents, ternary_update
from .update_rules import SCALE_VOTE, VOTE, mean_bit_length
from .update_tiles import from_quarters, quarters, settle_quads, sums_of_quads
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
    (2048, UpdateConfig(128, 256, 128, 8, 3)),
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
def _group_sums(gradient, packed):
    """int64 [L]: S and h of the groups [L, Q, 4]."""
    g0, g1, g2, g3 = quarters(gradient)
    p0, p1, p2, p3 = quarters(packed)
    size0, along0 = sums_of_quads(g0, p0)
    size1, along1 = sums_of_quads(g1, p1)
    size2, along2 = sums_of_quads(g2, p2)
    size3, along3 = sums_of_quads(g3, p3)
    return tl.sum(size0 + size1 + size2 + size3, axis=1), -tl.sum(along0 + along1 + along2 + along3, axis=1)


@triton.jit(do_not_specialize=["gain", "scale_gain", "step", "stream", "key_low", "key_high"])
def linear_update_kernel(
    q_g, q_x, codes, t_accum, e, e_accum, counts,
    rows, columns, tokens, code_bytes, groups,
    e_base, e_span, gain, vote_max, threshold, scale_gain, e_threshold, step, stream, key_low, key_high,
    RULE: tl.constexpr, SIZE: tl.constexpr, QUADS: tl.constexpr, RUNS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """A tile of W [O, I], in place, from descriptors q_g [O, T] and q_x [I, T]; SIZE is the group size.

    RUNS: q_x, codes and t_accum are descriptors, q_x one in runs. Otherwise codes and t_accum are pointers.
    """
    GROUPS: tl.constexpr = BLOCK_N // SIZE
    LINES: tl.constexpr = BLOCK_M * GROUPS
    BYTES: tl.constexpr = SIZE // 4
    m0, n0 = tile_of(tl.program_id(0), rows, columns, BLOCK_M, BLOCK_N, 8)
    if RUNS:
        total = _product_in_runs(q_g, q_x, m0, n0, tokens, BLOCK_M, BLOCK_N, BLOCK_K)
    else:
        total = product(q_g, q_x, m0, n0, tokens, BLOCK_M, BLOCK_N, BLOCK_K)
    gradient = tl.reshape(total, (LINES, BYTES, 4))

    line = tl.arange(0, LINES)
    below = line // GROUPS
    group = n0 // SIZE + line % GROUPS
    row = m0 + below
    valid = (row < rows) & (group < groups)
    byte = group[:, None] * BYTES + tl.arange(0, BYTES)[None, :]
    if RUNS:
        packed = tl.reshape(codes.load([m0, n0 // 4]), (LINES, BYTES))
        accum = tl.reshape(t_accum.load([m0, n0]), (LINES, BYTES, 4))
    else:
        has_byte = valid[:, None] & (byte < code_bytes)
        code_place = codes + m0.to(tl.int64) * code_bytes + (below[:, None] * code_bytes + byte)
        packed = tl.load(code_place, mask=has_byte, other=0x55)
        column = byte[:, :, None] * 4 + tl.arange(0, 4)[None, None, :]
        inside = valid[:, None, None] & (column < columns)
        accum_place = t_accum + m0.to(tl.int64) * columns + (below[:, None, None] * columns + column)
        accum = tl.load(accum_place, mask=inside, other=0)

    size, h = _group_sums(gradient, packed)
    scale_voted, e_moved = settle_exponents(
        row.to(tl.int64), group, valid, size, h, e, e_accum, groups, scale_gain, e_threshold, e_base, e_span,
        step, stream + SCALE_VOTE, key_low, key_high, 127,
    )  # fmt: skip
    count = tl.maximum(tl.minimum(columns - group * SIZE, SIZE), 1)
    v = mean_bit_length(size, count).to(tl.uint64)

    if RUNS:  # read again, so that the first decoding need not be kept
        packed = tl.reshape(codes.load([m0, n0 // 4]), (LINES, BYTES))
    stream += VOTE
    g0, g1, g2, g3 = quarters(gradient)
    p0, p1, p2, p3 = quarters(packed)
    t0, t1, t2, t3 = quarters(accum)
    b0, b1, b2, b3 = quarters(byte)
    p0, t0, voted0, moved0 = settle_quads(
        g0,
        p0,
        t0,
        row,
        b0,
        columns,
        v,
        gain,
        vote_max,
        threshold,
        step,
        stream,
        key_low,
        key_high,
        RULE,
        QUADS,
    )
    p1, t1, voted1, moved1 = settle_quads(
        g1,
        p1,
        t1,
        row,
        b1,
        columns,
        v,
        gain,
        vote_max,
        threshold,
        step,
        stream,
        key_low,
        key_high,
        RULE,
        QUADS,
    )
    p2, t2, voted2, moved2 = settle_quads(
        g2,
        p2,
        t2,
        row,
        b2,
        columns,
        v,
        gain,
        vote_max,
        threshold,
        step,
        stream,
        key_low,
        key_high,
        RULE,
        QUADS,
    )
    p3, t3, voted3, moved3 = settle_quads(
        g3,
        p3,
        t3,
        row,
        b3,
        columns,
        v,
        gain,
        vote_max,
        threshold,
        step,
        stream,
        key_low,
        key_high,
        RULE,
        QUADS,
    )
    packed = from_quarters(p0, p1, p2, p3)
    accum = from_quarters(t0, t1, t2, t3)
    # outside the matrix nothing votes, and a threshold that empty accumulators meet does not exist
    if RUNS:
        codes.store([m0, n0 // 4], tl.reshape(packed, (BLOCK_M, BLOCK_N // 4)))
        t_accum.store([m0, n0], tl.reshape(accum, (BLOCK_M, BLOCK_N)))
    else:
        tl.debug_barrier()
        tl.store(code_place, packed, mask=has_byte)
        tl.store(accum_place, accum, mask=inside)

    # two numbers in one sum: a tile has less than 2^16 elements
    both = tl.sum(tl.sum(voted0 + voted1 + voted2 + voted3, axis=1), axis=0)
    moved = tl.sum(moved0 + moved1 + moved2 + moved3, axis=1) + (scale_voted.to(tl.int32) << 16)
    rest = tl.sum(moved, axis=0)
    tl.atomic_add(counts, (both & 0xFFFF).to(tl.int64), sem="relaxed")
    tl.atomic_add(counts + 1, ((both >> 16) & 0xFFFF).to(tl.int64), sem="relaxed")
    tl.atomic_add(counts + 2, (rest & 0xFFFF).to(tl.int64), sem="relaxed")
    tl.atomic_add(counts + 3, ((rest >> 16) & 0xFFFF).to(tl.int64), sem="relaxed")
    tl.atomic_add(counts + 4, tl.sum(e_moved.to(tl.int32), axis=0).to(tl.int64), sem="relaxed")


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
        descriptor(codes, (c.block_m, c.block_n // 4)) if runs else codes,
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
