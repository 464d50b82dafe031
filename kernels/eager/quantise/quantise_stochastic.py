"""Rows to int8, rounded stochastically (ARB-QUANT-005, -009)."""

from __future__ import annotations

import torch

from ..fuse import fused, scalar
from ..random_bits.generator import Number, random16, split_seed
from .exponents import exponent_of, fraction


def _stochastic(
    x: torch.Tensor, key: tuple[int, int], step: Number, stream: Number, first: int
) -> tuple[torch.Tensor, torch.Tensor]:
    e = exponent_of(x, 1)
    q = (fraction(x, e) + random16(first, x.shape, key, step, stream, x.device)) >> 16
    return q.to(torch.int8), e.squeeze(1).to(torch.int8)


def quantise_stochastic(
    x: torch.Tensor, seed: int, step: int, stream: int, first_row: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """x float32 [R, C] -> q int8 [R, C], e int8 [R]; 127 marks a row that is not finite."""
    q, e = fused(_stochastic, x)(
        x, split_seed(seed), scalar(step, x), scalar(stream, x), first_row * x.shape[1]
    )
    return q, e
