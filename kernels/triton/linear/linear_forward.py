"""y = x W^T on quantised activations and packed trits (ARB-LIN-001, -003, -004).

Many tokens: w^ is unpacked once and the product runs on int8. Few tokens: the codes are
read packed, by `few_tokens`.
"""

from __future__ import annotations

import torch

from ..launch import require_device
from .few_tokens import MOST, few_tokens
from .gemm import gemm
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
    require_device("linear_forward", q_x)
    if q_x.shape[0] <= MOST:
        return few_tokens(q_x, e_x, codes, e, e_base, group_size)
    weight = scaled_weight(codes, e, e_base, group_size, q_x.shape[1], transposed=False)
    return gemm(q_x, weight, e_x, e_base)
