"""1 / (1 + e^-x), element by element (ARB-SOFT-003)."""

from __future__ import annotations

import torch

from ..rows.fixed_point import nan_where
from .exponential import ONE, octaves, weight


def sigmoid(x: torch.Tensor) -> torch.Tensor:
    """x float32 [R, C] -> y float32 [R, C]."""
    nan = x.isnan()
    w = weight(octaves(torch.where(nan, 0.0, x.abs())))
    return nan_where(nan, torch.where(x < 0, w, ONE).float() / (ONE + w).float())
