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

from ...layout import row_major
from ..launch import ALIGNMENT, in_place, random_key, require_device
from ..linear.gemm import Config, descriptor, k_major, tile_of
from ..linear.weight_gradient import weight_gradient
from .parts import settle_part
from .ternary_update import group_update

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


@triton.jit(
    do_not_specialize=[
        "gain", "vote_max", "threshold", "scale_gain", "step", "stream", "key_low", "key_high",
    ]
)  # fmt: skip
def linear_update_kernel(
    q_g, e_g, q_x, codes, t_accum, e, e_accum, moment, counts,
    rows, columns, tokens, groups,
    e_base, e_span, gain, vote_max, threshold, scale_gain, e_threshold, step, stream, key_low, key_high,
    RULE: tl.constexpr, SIZE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """A tile of W [O, I], in place, from descriptors: q_g [O, T], q_x [I, T] in runs, and of a part of the
    tile codes as int32 [O, I / 16] and t_accum [O, I]. SIZE is the group size.

    A tile is settled in 1 or 2 parts of its rows, one after the other: for more there are no registers.
    """
    PART_M: tl.constexpr = BLOCK_M // PARTS
    m0, n0 = tile_of(tl.program_id(0), rows, columns, BLOCK_M, BLOCK_N, 8)
    total = _product_in_runs(q_g, q_x, m0, n0, tokens, BLOCK_M, BLOCK_N, BLOCK_K)
    if PARTS == 1:
        settle_part(
            total, m0, n0, e_g, codes, t_accum, e, e_accum, moment, counts, rows, columns, groups,
            e_base, e_span, gain, vote_max, threshold, scale_gain, e_threshold, step, stream,
            key_low, key_high, RULE, SIZE,
        )  # fmt: skip
    else:
        part, other = tl.split(tl.permute(tl.reshape(total, (2, PART_M, BLOCK_N)), (1, 2, 0)))
        # not written out twice, which would not fit the cache of instructions
        for m in tl.range(m0, m0 + BLOCK_M, PART_M, num_stages=1, loop_unroll_factor=1):
            settle_part(
                part, m, n0, e_g, codes, t_accum, e, e_accum, moment, counts, rows, columns, groups,
                e_base, e_span, gain, vote_max, threshold, scale_gain, e_threshold, step, stream,
                key_low, key_high, RULE, SIZE,
            )  # fmt: skip
            part = other


def config_for(rows: int, columns: int) -> Config:
    """The tile for a matrix of that size: large ones where they fill the device."""
    smaller = min(rows, columns)
    return [config for least, config in CONFIGS if least <= smaller][-1]


def part_of(c: Config) -> int:
    """Rows of a tile that are settled at a time: 16 a warp are what its registers hold."""
    return min(c.block_m, 16 * c.warps)


def _in_runs(q_x: torch.Tensor, c: Config) -> TensorDescriptor:
    """A descriptor of K-major q_x [I, T] whose blocks hold rows in the order that gives runs."""
    columns, tokens = q_x.shape
    stride = max(q_x.stride(0), ALIGNMENT)
    shape = [columns // RUN, 8, 4, 2, tokens]
    strides = [RUN * stride, 2 * stride, 16 * stride, stride, 1]
    return TensorDescriptor(q_x, shape, strides, [c.block_n // RUN, 8, 4, 2, c.block_k])


def _words(codes: torch.Tensor, c: Config) -> TensorDescriptor:
    """A descriptor of the codes of a part as int32, a run of 16 each."""
    words = codes.view(torch.int32)
    return TensorDescriptor(words, list(words.shape), list(words.stride()), [part_of(c), c.block_n // 16])


def _comes_in_runs(rows: int, columns: int, state: tuple[torch.Tensor, ...]) -> bool:
    """Whether descriptors can have rows of state in runs, and 32 bits the index of a quad of random bits."""
    aligned = all(tensor.data_ptr() % ALIGNMENT == 0 for tensor in state[:2])
    return columns % RUN == 0 and aligned and rows * columns <= 2**34


def fused_update(
    q_g: torch.Tensor,
    e_g: torch.Tensor,
    q_x: torch.Tensor,
    state: tuple[torch.Tensor, ...],
    how: tuple[Any, ...],
    c: Config,
) -> torch.Tensor:
    """One launch with that tile; operands K-major [O, T] and [I, T], state contiguous -> counts int64 [5]."""
    e_base, e_span, group_size, rule, gain, vote_max, threshold, scale_gain, e_threshold, *random = how
    seed, tensor_id, step = random
    (rows, tokens), columns = q_g.shape, q_x.shape[0]
    codes, t_accum, e, e_accum, moment = state
    counts = torch.zeros(5, dtype=torch.int64, device=q_g.device)
    grid = (triton.cdiv(rows, c.block_m) * triton.cdiv(columns, c.block_n),)
    linear_update_kernel[grid](
        descriptor(q_g, (c.block_m, c.block_k)),
        row_major(e_g),
        _in_runs(q_x, c),
        _words(codes, c),
        descriptor(t_accum, (part_of(c), c.block_n)),
        e,
        e_accum,
        moment,
        counts,
        rows,
        columns,
        tokens,
        e.shape[1],
        e_base,
        e_span,
        4 * gain,
        4 * vote_max,
        4 * threshold,
        scale_gain,
        e_threshold,
        *random_key(seed, step, 16 * tensor_id),
        RULE=rule,
        SIZE=group_size,
        BLOCK_M=c.block_m,
        BLOCK_N=c.block_n,
        BLOCK_K=c.block_k,
        PARTS=c.block_m // part_of(c),
        num_warps=c.warps,
        num_stages=c.stages,
    )
    return counts


def linear_update(
    q_g: torch.Tensor,
    e_g: torch.Tensor,
    q_x: torch.Tensor,
    codes: torch.Tensor,
    t_accum: torch.Tensor,
    e: torch.Tensor,
    e_accum: torch.Tensor,
    moment: torch.Tensor,
    *how: Any,
) -> torch.Tensor:
    """q_g int8 [T, O], e_g int8 [O], q_x int8 [T, I]; codes, t_accum, e, e_accum, moment in place; `how` as
    in the specification -> counts int64 [5]. Fastest when the operands' memory is [O, T] and [I, T]."""
    require_device("linear_update", q_g)
    rows, columns = q_g.shape[1], q_x.shape[1]
    with in_place(codes, t_accum, e, e_accum, moment) as state:
        if how[2] in FUSED_GROUPS and _comes_in_runs(rows, columns, state):
            config = config_for(rows, columns)
            return fused_update(k_major(q_g.t()), e_g, k_major(q_x.t()), state, how, config)
        return group_update(weight_gradient(q_g, q_x), e_g, state, how)
