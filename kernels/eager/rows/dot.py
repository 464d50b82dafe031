"""Products of rows, each summed (ARB-DOT-001)."""

from __future__ import annotations

import torch

from .fixed_point import coarse, is_poisoned, nan_where, rows_of, shifted, sum_of_products


def dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a and b float32 [R, C] -> y float32 [R]; NaN of rows of which one is not finite."""
    (f_a, e_a), (f_b, e_b) = rows_of(a), rows_of(b)
    total = sum_of_products(coarse(f_a), coarse(f_b))
    y = shifted(total.float(), e_a + e_b - 16)
    return nan_where(is_poisoned(e_a) | is_poisoned(e_b), y).squeeze(1)
