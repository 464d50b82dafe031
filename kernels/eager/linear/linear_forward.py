"""y = x W^T on quantised activations and packed trits (ARB-LIN-001, -003, -004)."""

from __future__ import annotations

import torch

from ..fuse import fused
from ..packing.codes import scaled_weight
from ..quantise.exponents import POISONED, power_of_two
from .exact_matmul import matmul_nt


def scale_rows(z: torch.Tensor, e_row: torch.Tensor, e_base: int) -> torch.Tensor:
    """float32(z) * 2^min(e_row + e_base, 127); NaN in poisoned rows. z int32 [T, N], e_row int8 [T]
    (ARB-LIN-003, -004)."""
    e = e_row.to(torch.int32)
    scale = power_of_two((e + e_base).clamp(max=127))
    y = z.float() * scale.unsqueeze(1)
    return y.masked_fill_((e == POISONED).unsqueeze(1), float("nan"))


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
    weight = fused(scaled_weight, codes)(codes, e, e_base, group_size, q_x.shape[1])
    y: torch.Tensor = fused(scale_rows, q_x)(matmul_nt(q_x, weight, 127 << e_span), e_x, e_base)
    return y
