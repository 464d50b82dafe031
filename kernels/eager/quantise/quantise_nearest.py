"""Rows to int8, rounded to nearest (ARB-QUANT-004, -008)."""

from __future__ import annotations

import torch

from ..fuse import fused
from .exponents import exponent_of, fraction


def _nearest(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    e = exponent_of(x, 1)
    q = (fraction(x, e) + 32768) >> 16
    return q.to(torch.int8), e.squeeze(1).to(torch.int8)


def quantise_nearest(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x float32 [R, C] -> q int8 [R, C], e int8 [R]; 127 marks a row that is not finite."""
    q, e = fused(_nearest, x)(x)
    return q, e
