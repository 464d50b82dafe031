"""Sums of gradient rows by token; integers, so the order of the additions is free (ARB-EMB-003)."""

from __future__ import annotations

import torch

from .tokens import refuse_outside


def embedding_gradient(tokens: torch.Tensor, q: torch.Tensor, rows: int) -> torch.Tensor:
    """tokens int64 [T], q int8 [T, D] -> G int32 [V, D]. Raises ValueError for a bad token."""
    refuse_outside(tokens, rows)
    total = torch.zeros(rows, q.shape[1], dtype=torch.int32, device=q.device)
    return total.index_add_(0, tokens, q.to(torch.int32))
