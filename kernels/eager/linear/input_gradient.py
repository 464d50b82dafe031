"""dx = dy W on quantised gradients and packed trits (ARB-LIN-002)."""

from __future__ import annotations

import torch

from ..fuse import fused
from ..packing.codes import scaled_weight
from .exact_matmul import matmul_nt
from .linear_forward import scale_rows


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
    weight = fused(scaled_weight, codes)(codes, e, e_base, group_size, in_features)
    dx: torch.Tensor = fused(scale_rows, q_d)(matmul_nt(q_d, weight.t(), 127 << e_span), e_d, e_base)
    return dx
