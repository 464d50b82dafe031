"""The running mean of squares of a group, in one int32, and the factor that the rule `adaptive` gets from it
(ARB-MOM-001 to -003, ARB-VOTE-005). All tensors are int64 [O, G] unless they say otherwise."""

from __future__ import annotations

import torch

from ..random_bits.generator import Number
from .groups import bit_length

MANTISSA, BIAS, MEMORY = 21, 512, 128
MASK = (1 << MANTISSA) - 1


def _to_bits(value: torch.Tensor, power: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """value * 2^power with so many bits, low ones cut off; 0 stays 0."""
    less = bit_length(value) - bits
    return (value << (-less).clamp(min=0)) >> less.clamp(min=0), power + less


def mean_square(
    sizes: torch.Tensor, total: torch.Tensor, count: torch.Tensor, e_g: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """|G| [O, G, g], its sums, lengths [G] of groups, exponents [O, 1] -> the mean square and its power
    (ARB-MOM-002)."""
    cut = (bit_length(total) - 15).clamp(min=0)
    half = (torch.ones_like(cut) << cut) >> 1
    reduced = (sizes + half[..., None]) >> cut[..., None]
    square, power = _to_bits(reduced.square().sum(-1), 2 * (cut + e_g), 31)
    return _to_bits(square // count, power, MANTISSA)


def advance(
    moment: torch.Tensor, square: tuple[torch.Tensor, torch.Tensor], weight: int | torch.Tensor
) -> torch.Tensor:
    """moment int32 [O, G] after another `square`, which counts for 1 of `weight`, a number or int64 [O, 1] ->
    int32 [O, G] (ARB-MOM-003)."""
    new, new_power = square
    old = moment.long() & MASK
    old_power = torch.where(old > 0, (moment.long() >> MANTISSA) - BIAS, new_power)
    new_power = torch.where(new > 0, new_power, old_power)
    power = torch.maximum(old_power, new_power)
    older = (old >> (power - old_power).clamp(max=31)) * (weight - 1)
    mean = (older + (new >> (power - new_power).clamp(max=31))) * 8 // weight
    mean, power = _to_bits(mean, power - 3, MANTISSA)
    kept = (mean > 0) & (power >= -BIAS)
    return torch.where(kept, (power + BIAS << MANTISSA) + mean, 0).int()


def root_factor(moment: torch.Tensor, e_g: torch.Tensor, gain: Number) -> tuple[torch.Tensor, torch.Tensor]:
    """moment int32 [O, G], exponents [O, 1] -> factor and shift of the votes (ARB-VOTE-005)."""
    power = (moment.long() >> MANTISSA) - BIAS - 2 * e_g
    odd = power & 1
    factor = 4 * gain * inverse_root((moment.long() & MASK).clamp(min=1) << odd)
    cut = (bit_length(factor) - 31).clamp(min=0)
    factor = torch.where(moment > 0, factor >> cut, 0)  # of a moment of 0 there is no vote
    return factor, (26 + ((power - odd) >> 1) - cut).clamp(0, 62)


def inverse_root(m: torch.Tensor) -> torch.Tensor:
    """The largest u with u^2 * m <= 2^52, for 1 <= m < 2^22: float64 is at most one off, integers are not."""
    u = (2.0**52 / m.double()).sqrt().long()
    u = u - (u * u * m > 1 << 52).long()
    return u + ((u + 1) * (u + 1) * m <= 1 << 52).long()
