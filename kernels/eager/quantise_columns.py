"""Columns of the scaled output gradient to int8, rounded stochastically (ARB-QUANT-010)."""

from __future__ import annotations

import torch

from .exponents import POISONED, exponent_of, fraction, power_of_two
from .random_bits import random16


def quantise_columns(
    dy: torch.Tensor, e_x: torch.Tensor, seed: int, step: int, stream: int, first_row: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """dy float32 [T, O], e_x int8 [T] -> q int8 [T, O], e int8 [O]; 127 marks a column that is not finite."""
    e_row = e_x.to(torch.int32).unsqueeze(1)
    d = dy * power_of_two(e_row)
    e = exponent_of(d, 0)
    e = torch.where((e_row == POISONED).any(), POISONED, e)
    r16 = random16(first_row * dy.shape[1], dy.shape, seed, step, stream, dy.device)
    q = (fraction(d, e) + r16) >> 16
    return q.to(torch.int8), e.squeeze(0).to(torch.int8)
