"""Votes, firing and exponents from an integer gradient, as new arrays (section 6); the updates write them
back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..fuse import fused, scalar
from ..packing.codes import decode, encode
from ..random_bits.generator import Number, random16, split_seed
from .groups import bit_length, groups_of, lengths, spread
from .moment import MEMORY, advance, mean_square, root_factor

VOTE, SCALE_VOTE = 3, 4


@dataclass(frozen=True)
class Update:
    """State after an update, and what changed: masks of votes, fires, trits (all [O, I]), scale votes,
    exponents ([O, G])."""

    codes: torch.Tensor
    t_accum: torch.Tensor
    e: torch.Tensor
    e_accum: torch.Tensor
    moment: torch.Tensor
    changes: tuple[torch.Tensor, ...]


def rounded_votes(
    gradient: torch.Tensor,
    factor: torch.Tensor,
    shift: torch.Tensor,
    group_size: int,
    vote_max: int,
    r16: torch.Tensor,
) -> torch.Tensor:
    """G times its group's factor int64 [O, G], shifted and rounded stochastically (ARB-VOTE-001) -> votes
    int32 [O, I] in quarters."""
    columns = gradient.shape[1]
    size = gradient.long().abs()  # widened first: |-2^31| is no int32
    share = size.mul_(spread(factor, group_size, columns)).bitwise_right_shift_(
        spread(shift, group_size, columns)
    )
    k = share.add_(r16).bitwise_right_shift_(16).clamp_(max=4 * vote_max)
    return -gradient.sign() * k.int()


def _fire(
    trits: torch.Tensor, t_accum: torch.Tensor, votes: torch.Tensor, accum_threshold: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Trits and accumulators, int8 [O, I], after votes int32, and the mask of those that fired
    (ARB-FIRE-001, -002)."""
    a = t_accum + votes
    fires = a.abs() >= 4 * accum_threshold
    moved = torch.where(fires, (trits + a.sign()).clamp(-1, 1), trits).to(torch.int8)
    kept = torch.where(moved == trits, a.sign() * (4 * accum_threshold - 1), 0)
    return moved, torch.where(fires, kept, a).to(torch.int8), fires


def _apply(
    gradient: torch.Tensor,
    e_g: torch.Tensor,
    updates: torch.Tensor,
    codes: torch.Tensor,
    t_accum: torch.Tensor,
    e: torch.Tensor,
    e_accum: torch.Tensor,
    moment: torch.Tensor,
    e_base: int,
    e_span: int,
    group_size: int,
    rule: str,
    gain: Number,
    vote_max: int,
    accum_threshold: int,
    scale_gain: Number,
    e_accum_threshold: int,
    key: tuple[int, int],
    stream: Number,
    step: Number,
) -> Update:
    """gradient int32 [O, I] and the state, unchanged -> the state after the update; e_g and `updates` int64
    [O, 1] or [1, 1], stream is that of purpose 0."""
    trits = decode(codes, gradient.shape[1])
    sizes = groups_of(gradient.long().abs(), group_size)
    total = sizes.sum(-1)
    correlation = -groups_of(gradient.long() * trits, group_size).sum(-1)

    if rule == "sign":
        votes = -4 * gradient.sign()
    else:
        count = lengths(gradient.shape[1], group_size, gradient.device)
        if rule == "adaptive":
            weight = (updates + 1).clamp(max=MEMORY)
            moment = advance(moment, mean_square(sizes, total, count, e_g), weight)
            factor, shift = root_factor(moment, e_g, gain)
        else:
            shift = bit_length(total // count)
            factor = torch.zeros_like(shift) + 4 * gain
        r16 = random16(0, gradient.shape, key, step, stream + VOTE, gradient.device)
        votes = rounded_votes(gradient, factor, shift, group_size, vote_max, r16)
    moved, accumulated, fires = _fire(trits, t_accum, votes, accum_threshold)

    r16 = random16(0, total.shape, key, step, stream + SCALE_VOTE, gradient.device)
    scale_votes = torch.where(correlation.abs() * scale_gain > r16 * total, correlation.sign(), 0)
    limit = torch.iinfo(e_accum.dtype).max
    e_accumulated = (e_accum + scale_votes).clamp_(-limit, limit)
    e_fires = e_accumulated.abs() >= e_accum_threshold
    e_moved = torch.where(e_fires, (e + e_accumulated.sign()).clamp(e_base, e_base + e_span), e).to(
        torch.int8
    )

    return Update(
        codes=encode(moved),
        t_accum=accumulated,
        e=e_moved,
        e_accum=e_accumulated.masked_fill(e_fires, 0).to(e_accum.dtype),
        moment=moment,
        changes=(votes != 0, fires, moved != trits, scale_votes != 0, e_moved != e),
    )


def apply_rules(
    gradient: torch.Tensor,
    e_g: torch.Tensor,
    updates: torch.Tensor | None,
    state: tuple[torch.Tensor, ...],
    *how: Any,
) -> Update:
    """gradient int32 [O, I], e_g int8 [O] or [1], `updates` that rows had, int32 [O], None if all had `step`,
    and the state, unchanged; `how` as in the specification -> the state after the update."""
    *band, rule, gain, vote_max, accum_threshold, scale_gain, e_accum_threshold, seed, tensor_id, step = how
    gain, scale_gain, stream, step = (scalar(n, gradient) for n in (gain, scale_gain, 16 * tensor_id, step))
    settings = (*band, rule, gain, vote_max, accum_threshold, scale_gain, e_accum_threshold)
    had = e_g.new_zeros(1).long() + step if updates is None else updates.long()
    update: Update = fused(_apply, gradient)(
        gradient, e_g.long()[:, None], had[:, None], *state, *settings, split_seed(seed), stream, step
    )
    return update
