"""The gradient of `softmax` (ARB-SOFT-002)."""

from __future__ import annotations

import torch

from ..quantise.exponents import power_of_two
from ..rows.fixed_point import coarse, is_poisoned, nan_where, rows_of, shifted, sum_of_products

_MOST = -6  # the exponent of a row of probabilities


def softmax_backward(dp: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """dp and p float32 [R, C] -> dx float32 [R, C]; NaN in rows of which one is not finite, or p no row of
    probabilities."""
    (f_d, e_d), (f_p, e_p) = rows_of(dp), rows_of(p)
    mean = sum_of_products(coarse(f_p), coarse(f_d)).float() * power_of_two(e_p.clamp(max=_MOST))
    v = (f_d.float() - mean) * f_p.float()
    return nan_where(is_poisoned(e_d) | (e_p > _MOST), shifted(v, e_d + e_p - 32))
