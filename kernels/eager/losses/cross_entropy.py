"""What rows of logits say of their targets, and the gradient of that (ARB-LOSS-001)."""

from __future__ import annotations

import torch

from ...checks import check_tokens
from ..rows.fixed_point import nan_where
from .exponential import UNITS, log2, shares, weights_of


def cross_entropy(x: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x float32 [T, C], targets int64 [T] -> losses int64 [T] in octaves of 2^-20, dx float32 [T, C].

    Raises ValueError for a target outside 0..C-1; on CUDA the device asserts.
    """
    check_tokens(targets, x.shape[1], "targets")
    if targets.is_cuda:
        torch._assert_async(((targets >= 0) & (targets < x.shape[1])).all())
    t, w, poisoned = weights_of(x)
    losses = log2(w.sum(1)) - (30 << UNITS) + t.gather(1, targets[:, None]).squeeze(1)
    right = torch.arange(x.shape[1], device=x.device) == targets[:, None]
    dx = shares(w) - right.float()
    return torch.where(poisoned.squeeze(1), -1, losses), nan_where(poisoned, dx)
