"""G = q_g^T q_x over all tokens of a step (ARB-LIN-005)."""

from __future__ import annotations

import torch

from .exact_matmul import matmul_nt


def weight_gradient(q_g: torch.Tensor, q_x: torch.Tensor) -> torch.Tensor:
    """q_g int8 [T, O], q_x int8 [T, I] -> G int32 [O, I]."""
    return matmul_nt(q_g.t(), q_x.t(), 127 * 127)
