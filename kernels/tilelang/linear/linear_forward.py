"""y = x W^T on quantised activations and packed trits (ARB-LIN-001, -003, -004).

Many tokens, and any number on the CPU: w^ is unpacked once and the product runs on int8. Few tokens on CUDA:
the packed codes alone are read, by `few_tokens` or, where the tensor cores are worth it, by `token_tile`.
"""

from __future__ import annotations

from typing import Any

import torch

from ...layout import row_major
from ..launch import k_major
from .few_tokens import MOST, few_tokens
from .gemm import product_nt
from .scaled_weight import scaled_weight
from .token_tile import TOKENS, token_tile


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
    way = unpacked_forward
    if q_x.is_cuda and len(q_x) <= TOKENS[-1]:
        way = few_tokens if len(q_x) <= MOST else token_tile
    return way(q_x, e_x, codes, e, e_base, e_span, group_size)


def unpacked_forward(q_x: torch.Tensor, *rest: Any) -> torch.Tensor:
    """As linear_forward, with its arguments, through w^ in memory, for any number of tokens."""
    e_x, codes, e, e_base, _, group_size = rest
    weight = scaled_weight(codes, e, e_base, group_size, q_x.shape[1], transposed=False)
    return product_nt(k_major(q_x), weight, row_major(e_x), e_base)
