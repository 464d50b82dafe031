"""Probabilities of rows (ARB-SOFT-001)."""

from __future__ import annotations

import torch

from ..rows.fixed_point import nan_where
from .exponential import shares, weights_of


def softmax(x: torch.Tensor) -> torch.Tensor:
    """x float32 [R, C] -> p float32 [R, C]; NaN in rows that are not finite."""
    _, w, poisoned = weights_of(x)
    return nan_where(poisoned, shares(w))
