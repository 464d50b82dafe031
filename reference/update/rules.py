"""The rules of section 6 as pure functions of int64 arrays: what a group votes, and what the votes do.

Nothing here draws random bits: r16 is an argument, so that the worked example of the specification, or any
other, can be put in by hand. Each function returns new arrays and leaves its arguments alone. Shapes: [O, I]
for what belongs to a weight, [O, G] for what belongs to a group, G = ceil(I / group_size).
"""

from typing import NamedTuple

import numpy as np

from ..groups import group_sums, spread
from ..limits import Ints, Mask
from ..quantise.exponents import bit_length


class Fired(NamedTuple):
    """Trits and their accumulators after the votes, and which of them fired; all [O, I]."""

    trits: Ints
    t_accum: Ints
    fires: Mask


class Moved(NamedTuple):
    """Exponents and their accumulators after the scale votes; both [O, G]."""

    e: Ints
    e_accum: Ints


def clamp(a: Ints, limit: int) -> Ints:
    """min(max(a, -limit), limit)."""
    return np.minimum(np.maximum(a, -limit), limit)


def mean_factor(gradient: Ints, group_size: int, gain: int) -> tuple[Ints, Ints]:
    """ARB-VOTE-001: (factor, shift), [O, G], of votes in proportion to |G| over its group's mean."""
    size = np.abs(gradient)
    count = group_sums(np.ones_like(size), group_size)
    shift = bit_length(group_sums(size, group_size) // count)
    return np.full_like(shift, 4 * gain), shift


def rounded_votes(
    gradient: Ints, r16: Ints, group_size: int, vote_max: int, factor: Ints, shift: Ints
) -> Ints:
    """ARB-VOTE-001, ARB-VOTE-003: votes [O, I] in quarters, rounded stochastically; factor, shift [O, G]."""
    columns = gradient.shape[1]
    factor, shift = spread(factor, group_size, columns), spread(shift, group_size, columns)
    # floor((x + r16 * 2^shift) / 2^(16 + shift)), whose sum would not fit where the shift is large
    k = (((np.abs(gradient) * factor) >> shift) + r16) >> 16
    votes: Ints = -np.sign(gradient) * np.minimum(k, 4 * vote_max)
    return votes


def sign_votes(gradient: Ints) -> Ints:
    """ARB-VOTE-002: votes [O, I] of one, four quarters, against the gradient."""
    return -4 * np.sign(gradient)


def accumulate_and_fire(trits: Ints, t_accum: Ints, votes: Ints, accum_threshold: int) -> Fired:
    """ARB-FIRE-001..003."""
    a = t_accum + votes
    fires = np.abs(a) >= 4 * accum_threshold
    moved = clamp(trits + np.sign(a), 1)
    at_rail = fires & (moved == trits)
    kept = np.where(at_rail, np.sign(a) * (4 * accum_threshold - 1), 0)
    return Fired(trits=np.where(fires, moved, trits), t_accum=np.where(fires, kept, a), fires=fires)


def scale_votes(gradient: Ints, trits: Ints, r16: Ints, group_size: int, scale_gain: int) -> Ints:
    """ARB-SCALE-001: votes [O, G] from the trits before the update and r16 [O, G]."""
    h = -group_sums(gradient * trits, group_size)
    total = group_sums(np.abs(gradient), group_size)
    return np.where(np.abs(h) * scale_gain > r16 * total, np.sign(h), 0)


def move_exponents(
    e: Ints, e_accum: Ints, votes: Ints, e_base: int, e_span: int, threshold: int, limit: int
) -> Moved:
    """ARB-SCALE-002, with the clamp at `limit`: 127 for e_accum, 32767 for corr_accum (ARB-EMB-004)."""
    a = clamp(e_accum + votes, limit)
    fires = np.abs(a) >= threshold
    stepped = np.minimum(np.maximum(e + np.sign(a), e_base), e_base + e_span)
    return Moved(e=np.where(fires, stepped, e), e_accum=np.where(fires, 0, a))
