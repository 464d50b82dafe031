"""Queries, keys and values of heads: normalised, rotated, in int8 (ARB-HEAD-001 to -004)."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ...heads import POISON, scale_of
from ..rows.fixed_point import coarse, norm_factor, rows_of, sum_of_products


class Normed(NamedTuple):
    """Of the slices of x as rows: f and c int32, e int32, S int64, the factor float32 and its bound."""

    f: torch.Tensor
    c: torch.Tensor
    e: torch.Tensor
    total: torch.Tensor
    factor: torch.Tensor
    bound: torch.Tensor


def normed(x: torch.Tensor) -> Normed:
    """x float32 [B, P, 3, N, 2, H] -> its slices, [B * P * 3 * N, 2 H]."""
    columns = 2 * x.shape[-1]
    f, e = rows_of(x.reshape(-1, columns))
    c = coarse(f)
    total = sum_of_products(c, c)
    return Normed(f, c, e, total, *norm_factor(total, e, columns))


def turned(
    y: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, back: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values of y float32 [B, P, 3, N, 2, H], the former two rotated by position: forward,
    queries scaled behind that; back, before it."""
    c, s = (table.float().mul(2.0**-14)[:, None] for table in (cos, sin))
    s = -s if back else s
    kappa = torch.tensor(scale_of(2 * y.shape[-1])[0], dtype=torch.float32, device=y.device)
    q, k, v = y.unbind(2)
    q = _rotated(q * kappa, c, s) if back else _rotated(q, c, s) * kappa
    return q, _rotated(k, c, s), v


def _rotated(y: torch.Tensor, c: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    first, second = y.unbind(-2)
    return torch.stack((first * c - second * s, first * s + second * c), dim=-2)


def heads(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x float32 [B, P, 3, N, 2, H], cos and sin int16 [P, H] -> q, k, v int8 [B, P, N, 2, H]."""
    found = normed(x)
    y = (found.f.float() * found.factor).view(x.shape)
    poisoned = (found.e == 127).view(*x.shape[:4], 1, 1).unbind(2)
    q, k, v = (
        ((part * 2.0**21).int() + (1 << 15) >> 16).clamp(-127, 127).masked_fill(lost, POISON).to(torch.int8)
        for part, lost in zip(turned(y, cos, sin), poisoned, strict=True)
    )
    return q, k, v
