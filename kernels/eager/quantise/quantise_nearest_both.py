"""Rows to int8, rounded to nearest, in both layouts (ARB-QUANT-011)."""

from __future__ import annotations

import torch

from .quantise_nearest import quantise_nearest


def quantise_nearest_both(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x float32 [R, C] -> q int8 [R, C], q_t int8 [C, R], e int8 [R]; 127 marks a row that is not finite."""
    q, e = quantise_nearest(x)
    return q, q.t().clone(memory_format=torch.contiguous_format), e  # of one row .contiguous() is q
