"""The gradient of `heads` (ARB-HEAD-005)."""

from __future__ import annotations

import torch

from ..rows.fixed_point import is_poisoned, nan_where, rows_of, shifted
from .heads import normed, turned


def heads_backward(
    dq: torch.Tensor,
    dk: torch.Tensor,
    dv: torch.Tensor,
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
) -> torch.Tensor:
    """dq, dk, dv float32 [B, P, N, 2, H], x float32 [B, P, 3, N, 2, H], cos and sin int16 [P, H] -> dx."""
    found = normed(x)
    f_d, e_d = rows_of(torch.stack((dq, dk, dv), dim=2).view(found.f.shape))
    g = torch.stack(turned(f_d.float().view(x.shape), cos, sin, back=True), dim=2).view(found.f.shape)
    along = (found.c.long() * (g.int() + 128 >> 8)).sum(1, keepdim=True)
    share = torch.where(found.factor == found.bound, 0.0, along.float() / found.total.float())
    v = (g - found.f.float() * share) * found.factor
    lost = is_poisoned(found.e) | is_poisoned(e_d)
    return nan_where(lost, shifted(v, e_d - found.e)).view(x.shape)
