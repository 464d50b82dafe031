"""Rows to int8, rounded to nearest (ARB-QUANT-004, -008)."""

from __future__ import annotations

import torch

from .quantise_rows import quantise_rows


def quantise_nearest(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x float32 [R, C] -> q int8 [R, C], e int8 [R]; 127 marks a row that is not finite."""
    q, _, e = quantise_rows(x)
    return q, e
