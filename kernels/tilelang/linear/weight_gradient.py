"""G = q_g^T q_x over all tokens of a step (ARB-LIN-005)."""

from __future__ import annotations

import torch

from ..launch import k_major
from .gemm import product_nt


def weight_gradient(q_g: torch.Tensor, q_x: torch.Tensor) -> torch.Tensor:
    """q_g int8 [T, O], q_x int8 [T, I] -> G int32 [O, I]. Reads both over tokens: no copy where their memory
    is [O, T] and [I, T]."""
    return product_nt(k_major(q_g.t()), k_major(q_x.t()))
