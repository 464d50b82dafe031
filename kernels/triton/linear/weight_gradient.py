"""G = q_g^T q_x over all tokens of a step, as int32 in memory (ARB-LIN-005); training never asks for it."""

from __future__ import annotations

import torch

from ..launch import require_device
from .gemm import gemm


def weight_gradient(q_g: torch.Tensor, q_x: torch.Tensor) -> torch.Tensor:
    """q_g int8 [T, O], q_x int8 [T, I] -> G int32 [O, I]. Fastest when their memory is [O, T] and [I, T]."""
    require_device("weight_gradient", q_g)
    return gemm(q_g.t(), q_x.t())
