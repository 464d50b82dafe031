"""Rows to int8, rounded stochastically (ARB-QUANT-005, -009)."""

from __future__ import annotations

import torch

from .quantise_rows import quantise_rows


def quantise_stochastic(
    x: torch.Tensor, seed: int, step: int, stream: int, first_row: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """x float32 [R, C] -> q int8 [R, C], e int8 [R]; 127 marks a row that is not finite."""
    q, _, e = quantise_rows(x, random=(seed, step, stream, first_row))
    return q, e
