"""The gradient of `norm` (ARB-NORM-002)."""

from __future__ import annotations

import torch

from .fixed_point import coarse, is_poisoned, nan_where, norm_factor, rows_of, shifted, sum_of_products


def norm_backward(dy: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """dy and x float32 [R, C] -> dx float32 [R, C]; NaN in rows of which one is not finite."""
    (f, e), (f_d, e_d) = rows_of(x), rows_of(dy)
    c = coarse(f)
    total = sum_of_products(c, c)
    factor, bound = norm_factor(total, e, x.shape[1])
    share = torch.where(factor == bound, 0.0, sum_of_products(c, coarse(f_d)).float() / total.float())
    v = (f_d.float() - f.float() * share) * factor
    return nan_where(is_poisoned(e) | is_poisoned(e_d), shifted(v, e_d - e))
