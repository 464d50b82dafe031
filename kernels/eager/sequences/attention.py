"""Softmax attention in integers (ARB-ATT-001 to -004)."""

from __future__ import annotations

import torch

from ...heads import POISON, scale_of
from ..rows.fixed_point import nan_where
from .scores import heads_back, heads_first, pieces, scores, seen, weights


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """q int8 [B, A, N, D], k and v int8 [B, S, N, D] -> y float32 [B, A, N, D], top and total int32
    [B, A, N]."""
    batch, queries, heads, dim = q.shape
    positions = k.shape[1]
    _, u = scale_of(dim)
    visible = seen(queries, positions, window, q.device)
    q, k, v = heads_first(q), heads_first(k), heads_first(v)
    y = torch.empty(q.shape, dtype=torch.float32, device=q.device)
    top, total = (torch.empty(q.shape[:2], dtype=torch.int32, device=q.device) for _ in range(2))
    lost = ((k[..., 0] == POISON) | (v[..., 0] == POISON)).unsqueeze(1)
    for some, rows in pieces(batch * heads, queries, positions):
        shown = visible[rows]
        z = scores(q[some, rows], k[some])
        largest = torch.where(shown, z, -(1 << 30)).amax(-1, keepdim=True)
        w = weights(largest, z, shown, u)
        sums = w.sum(-1, keepdim=True, dtype=torch.int32)
        found = (w.double() @ v[some].double()).float() / sums.float() * 2.0**-5
        poisoned = (q[some, rows, :1] == POISON) | (shown & lost[some]).any(-1, keepdim=True)
        y[some, rows] = nan_where(poisoned, found)
        top[some, rows] = largest.masked_fill(poisoned, 0).squeeze(-1)
        total[some, rows] = sums.masked_fill(poisoned, 0).squeeze(-1)
    return heads_back(y, batch), heads_back(top, batch), heads_back(total, batch)
