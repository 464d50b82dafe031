"""Rows to int8, rounded to nearest, and their transpose from the same pass (ARB-QUANT-011)."""

from __future__ import annotations

import torch

from .quantise_rows import quantise_rows


def quantise_nearest_both(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x float32 [R, C] -> q int8 [R, C], q_t int8 [C, R], e int8 [R]; 127 marks a row that is not finite.
    Rows of q_t start at multiples of 16 bytes."""
    return quantise_rows(x, both=True)
