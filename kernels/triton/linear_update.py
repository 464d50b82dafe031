"""The whole update of a linear layer in one kernel: product over the tokens, votes, firing, exponents, packing.

The gradient lives in the accumulators of the product and never reaches memory (ARB-UPD-002). A tile holds
whole groups, so every sum that section 6 asks for is inside one program. Group sizes that no tile holds (12,
1024, ...) take the two-step way: `weight_gradient`, then `ternary_update`.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from .codes import decode, encode
from .gemm import Config, descriptor, k_major, product, tile_of
from .launch import in_place, random_key, require_device
from .random_bits import r16, r16_quads
from .ternary_update import ternary_update
from .update_rules import fire, scale_step, votes
from .weight_gradient import weight_gradient

VOTE, SCALE_VOTE = tl.constexpr(3), tl.constexpr(4)  # purposes of the random bits (ARB-RNG-005)
FUSED_GROUPS = (32, 64, 128)
# From the smallest extent that each is meant for. All of them give the same bits (ARB-UPD-003).
CONFIGS: tuple[tuple[int, Config], ...] = (
    (0, Config(64, 128, 128, 4, 7)),
    (512, Config(128, 128, 128, 8, 6)),
    (2048, Config(128, 128, 256, 8, 3)),
)


@triton.jit
def _settle_exponents(
    row, group, valid, total, h, e, e_accum, groups, scale_gain, e_threshold, e_base, e_span,
    step, stream, key_low, key_high,
):  # fmt: skip
    """Scale votes of the groups [R] of a tile, in place -> votes and moves, int32 [R] (ARB-SCALE-001, -002)."""
    place = row * groups + group
    old_e = tl.load(e + place, mask=valid, other=0).to(tl.int32)
    old_accum = tl.load(e_accum + place, mask=valid, other=0).to(tl.int32)
    drawn = r16(place, step, stream, key_low, key_high)
    new_e, accum, vote = scale_step(
        old_e, old_accum, h, total, drawn, scale_gain, e_threshold, e_base, e_span, 127
    )
    tl.store(e + place, new_e.to(tl.int8), mask=valid)
    tl.store(e_accum + place, accum.to(tl.int8), mask=valid)
    return tl.where(valid & (vote != 0), 1, 0), tl.where(valid & (new_e != old_e), 1, 0)


@triton.jit(do_not_specialize=["gain", "scale_gain", "step", "stream", "key_low", "key_high"])
def linear_update_kernel(
    q_g, q_x, codes, t_accum, e, e_accum, counts,
    rows, columns, tokens, code_bytes, groups,
    e_base, e_span, gain, vote_max, threshold, scale_gain, e_threshold, step, stream, key_low, key_high,
    RULE: tl.constexpr, SIZE: tl.constexpr, QUADS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """A tile of W [O, I], in place, from descriptors q_g [O, T] and q_x [I, T]; SIZE is the group size.

    The tile is seen as one row a group: [BLOCK_M * BLOCK_N / SIZE, SIZE].
    """
    m0, n0 = tile_of(tl.program_id(0), rows, columns, BLOCK_M, BLOCK_N, 8)
    total = product(q_g, q_x, m0, n0, tokens, BLOCK_M, BLOCK_N, BLOCK_K)
    GROUPS: tl.constexpr = BLOCK_N // SIZE
    gradient = tl.reshape(total, (BLOCK_M * GROUPS, SIZE))

    line = tl.arange(0, BLOCK_M * GROUPS)
    row = (m0 + line // GROUPS).to(tl.int64)
    group = n0 // SIZE + line % GROUPS
    valid = (row < rows) & (group < groups)
    column = group[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    inside = valid[:, None] & (column < columns)
    byte = group[:, None] * (SIZE // 4) + tl.arange(0, SIZE // 4)[None, :]
    has_byte = valid[:, None] & (byte < code_bytes)
    packed = codes + row[:, None] * code_bytes + byte
    place = row[:, None] * columns + column

    trit = decode(tl.load(packed, mask=has_byte, other=0x55))
    size = tl.sum(tl.abs(gradient).to(tl.int64), axis=1)
    h = -tl.sum((gradient * trit).to(tl.int64), axis=1)
    scale_votes, moves = _settle_exponents(
        row, group, valid, size, h, e, e_accum, groups, scale_gain, e_threshold, e_base, e_span,
        step, stream + SCALE_VOTE, key_low, key_high,
    )  # fmt: skip

    if QUADS:
        quad = row[:, None] * (columns // 4) + byte
        drawn = r16_quads(quad, step, stream + VOTE, key_low, key_high)
    else:
        drawn = r16(place, step, stream + VOTE, key_low, key_high)
    count = tl.maximum(tl.minimum(columns - group * SIZE, SIZE), 1)
    vote = votes(gradient, size[:, None], count[:, None], drawn, gain, vote_max, RULE)
    old = tl.load(t_accum + place, mask=inside, other=0).to(tl.int32)
    new, accum, fired = fire(trit, old, vote, threshold)
    # outside the matrix nothing votes; a threshold that empty accumulators meet does not exist
    tl.store(t_accum + place, accum.to(tl.int8), mask=inside)
    tl.store(packed, encode(new), mask=has_byte)

    tl.atomic_add(counts, tl.sum((vote != 0).to(tl.int32)).to(tl.int64))
    tl.atomic_add(counts + 1, tl.sum(fired.to(tl.int32)).to(tl.int64))
    tl.atomic_add(counts + 2, tl.sum((new != trit).to(tl.int32)).to(tl.int64))
    tl.atomic_add(counts + 3, tl.sum(scale_votes).to(tl.int64))
    tl.atomic_add(counts + 4, tl.sum(moves).to(tl.int64))


def config_for(rows: int, columns: int) -> Config:
    """The tile for a matrix of that size: large ones where they fill the device."""
    smaller = min(rows, columns)
    return [config for least, config in CONFIGS if least <= smaller][-1]


def fused_update(
    q_g: torch.Tensor, q_x: torch.Tensor, state: tuple[torch.Tensor, ...], how: tuple[Any, ...], c: Config
) -> torch.Tensor:
    """One launch with that tile; operands K-major [O, T] and [I, T], state contiguous -> counts int64 [5]."""
    e_base, e_span, group_size, rule, gain, vote_max, threshold, scale_gain, e_threshold, *random = how
    seed, tensor_id, step = random
    (rows, tokens), columns = q_g.shape, q_x.shape[0]
    counts = torch.zeros(5, dtype=torch.int64, device=q_g.device)
    grid = (triton.cdiv(rows, c.block_m) * triton.cdiv(columns, c.block_n),)
    linear_update_kernel[grid](
        descriptor(q_g, (c.block_m, c.block_k)),
        descriptor(q_x, (c.block_n, c.block_k)),
        *state,
        counts,
        rows,
        columns,
        tokens,
        state[0].shape[1],
        state[2].shape[1],
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
    group_size = how[2]
    if group_size not in FUSED_GROUPS:
        return ternary_update(weight_gradient(q_g, q_x), codes, t_accum, e, e_accum, *how)
    rows, columns = q_g.shape[1], q_x.shape[1]
    with in_place(codes, t_accum, e, e_accum) as state:
        return fused_update(k_major(q_g.t()), k_major(q_x.t()), state, how, config_for(rows, columns))
