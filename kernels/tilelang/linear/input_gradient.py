"""dx = dy W on quantised gradients and packed trits (ARB-LIN-002)."""

from __future__ import annotations

import torch

from ...layout import row_major
from ..launch import k_major
from .gemm import product_nt
from .scaled_weight import scaled_weight


def input_gradient(
    q_d: torch.Tensor,
    e_d: torch.Tensor,
    codes: torch.Tensor,
    e: torch.Tensor,
    e_base: int,
    e_span: int,
    group_size: int,
    in_features: int,
) -> torch.Tensor:
    """q_d int8 [T, O], e_d int8 [T], codes uint8 [O, ceil(I/4)], e int8 [O, G] -> dx float32 [T, I]."""
    weight = scaled_weight(codes, e, e_base, group_size, in_features, transposed=True)
    return product_nt(k_major(q_d), weight, row_major(e_d), e_base)
