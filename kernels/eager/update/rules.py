"""Votes, firing and exponents from an integer gradient, as new arrays (section 6); the updates write them
back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from ..fuse import fused, scalar
from ..packing.codes import decode, encode
from ..random_bits.generator import Number, random16, split_seed

VOTE, SCALE_VOTE = 3, 4


@dataclass(frozen=True)
class Update:
    """State after an update, and what changed: masks of votes, fires, trits (all [O, I]), scale votes,
    exponents ([O, G])."""

    codes: torch.Tensor
    t_accum: torch.Tensor
    e: torch.Tensor
    e_accum: torch.Tensor
    changes: tuple[torch.Tensor, ...]


def _groups(x: torch.Tensor, group_size: int) -> torch.Tensor:
    """[O, I] -> [O, G, g], the last group padded with zeros."""
    padded = F.pad(x, (0, -x.shape[1] % group_size))
    return padded.view(x.shape[0], -1, group_size)


def _bit_length(m: torch.Tensor) -> torch.Tensor:
    """Bits of non-negative int64 values below 2^53, read off the exponent of the exact float64."""
    return torch.where(m > 0, (m.double().view(torch.int64) >> 52) - 1022, 0)


def scaled_votes(
    gradient: torch.Tensor,
    total: torch.Tensor,
    group_size: int,
    gain: Number,
    vote_max: int,
    r16: torch.Tensor,
) -> torch.Tensor:
    """G over its group's magnitude, rounded stochastically (ARB-VOTE-001). total = S int64 [O, G] -> votes
    int32 [O, I]."""
    columns = gradient.shape[1]
    size = gradient.long().abs()  # widened first: |-2^31| is no int32
    last = columns - group_size * (total.shape[1] - 1)
    mean = torch.cat([total[:, :-1] // group_size, total[:, -1:] // last], dim=1)
    v = _bit_length(mean).repeat_interleave(group_size, dim=1)[:, :columns]
    k = (size * gain + (r16.long() << v)) >> (16 + v)
    return -gradient.sign() * k.clamp_(max=vote_max).int()


def _apply(
    gradient: torch.Tensor,
    codes: torch.Tensor,
    t_accum: torch.Tensor,
    e: torch.Tensor,
    e_accum: torch.Tensor,
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
    """gradient int32 [O, I] and the state, unchanged -> the state after the update; stream is that of
    purpose 0."""
    trits = decode(codes, gradient.shape[1])
    total = _groups(gradient.long().abs(), group_size).sum(-1)
    correlation = -_groups(gradient.long() * trits, group_size).sum(-1)

    if rule == "sign":
        votes = -gradient.sign()
    else:
        r16 = random16(0, gradient.shape, key, step, stream + VOTE, gradient.device)
        votes = scaled_votes(gradient, total, group_size, gain, vote_max, r16)
    accumulated = (t_accum + votes).clamp_(-127, 127)
    fires = accumulated.abs() >= accum_threshold
    moved = torch.where(fires, (trits + accumulated.sign()).clamp(-1, 1), trits).to(torch.int8)

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
        t_accum=accumulated.masked_fill(fires, 0).to(torch.int8),
        e=e_moved,
        e_accum=e_accumulated.masked_fill(e_fires, 0).to(e_accum.dtype),
        changes=(votes != 0, fires, moved != trits, scale_votes != 0, e_moved != e),
    )


def apply_rules(
    gradient: torch.Tensor,
    codes: torch.Tensor,
    t_accum: torch.Tensor,
    e: torch.Tensor,
    e_accum: torch.Tensor,
    *how: Any,
) -> Update:
    """gradient int32 [O, I] and the state, unchanged; `how` as in the specification -> the state after the
    update."""
    *band, rule, gain, vote_max, accum_threshold, scale_gain, e_accum_threshold, seed, tensor_id, step = how
    gain, scale_gain, stream, step = (scalar(n, gradient) for n in (gain, scale_gain, 16 * tensor_id, step))
    settings = (*band, rule, gain, vote_max, accum_threshold, scale_gain, e_accum_threshold)
    update: Update = fused(_apply, gradient)(
        gradient, codes, t_accum, e, e_accum, *settings, split_seed(seed), stream, step
    )
    return update
