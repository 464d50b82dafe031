"""Rows to int8, rounded stochastically (ARB-QUANT-005, -009)."""

from __future__ import annotations

import torch

from .exponents import exponent_of, fraction
from .random_bits import random16


def quantise_stochastic(
    x: torch.Tensor, seed: int, step: int, stream: int, first_row: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """x float32 [R, C] -> q int8 [R, C], e int8 [R]; 127 marks a row that is not finite."""
    e = exponent_of(x, 1)
    r16 = random16(first_row * x.shape[1], x.shape, seed, step, stream, x.device)
    q = (fraction(x, e) + r16) >> 16
    return q.to(torch.int8), e.squeeze(1).to(torch.int8)
