"""x over its root mean square (ARB-NORM-001)."""

from __future__ import annotations

import torch

from .fixed_point import coarse, is_poisoned, nan_where, norm_factor, rows_of, sum_of_products


def norm(x: torch.Tensor) -> torch.Tensor:
    """x float32 [R, C] -> y float32 [R, C]; NaN in rows that are not finite."""
    f, e = rows_of(x)
    c = coarse(f)
    factor, _ = norm_factor(sum_of_products(c, c), e, x.shape[1])
    return nan_where(is_poisoned(e), f.float() * factor)
