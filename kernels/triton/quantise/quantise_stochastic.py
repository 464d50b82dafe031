"""Rows to int8, rounded stochastically (ARB-QUANT-005, -009)."""

from __future__ import annotations

import torch

from ..launch import random_key, require_device
from .quantise_nearest import IN_QUADS, SINGLY, quantise_rows


def quantise_stochastic(
    x: torch.Tensor, seed: int, step: int, stream: int, first_row: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """x float32 [R, C] -> q int8 [R, C], e int8 [R]; 127 marks a row that is not finite (ARB-QUANT-007)."""
    require_device("quantise_stochastic", x)
    rounding = IN_QUADS if x.shape[1] % 4 == 0 else SINGLY
    return quantise_rows(x, random_key(seed, step, stream), first_row, rounding)
