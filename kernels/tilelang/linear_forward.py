"""y = x W^T on quantised activations and packed trits (ARB-LIN-001, -003, -004)."""

from __future__ import annotations

import torch

from .gemm import product_nt
from .launch import dense, k_major
from .scaled_weight import scaled_weight


def linear_forward(
    q_x: torch.Tensor,
    e_x: torch.Tensor,
    codes: torch.Tensor,
    e: torch.Tensor,
    e_base: int,
    e_span: int,
    group_size: int,
) -> torch.Tensor:
    """q_x int8 [T, I], e_x int8 [T], codes uint8 [O, ceil(I/4)], e int8 [O, G] -> y float32 [T, O]."""
    weight = scaled_weight(codes, e, e_base, group_size, q_x.shape[1], transposed=False)
    return product_nt(k_major(q_x), weight, dense(e_x), e_base)
