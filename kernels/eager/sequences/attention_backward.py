"""The gradients of `attention` (ARB-ATT-005, -006)."""

from __future__ import annotations

import torch

from ...heads import LN_2_BITS, scale_of, shift_of
from ..quantise.exponents import exponent_of, fraction
from ..rows.fixed_point import nan_where, shifted
from .scores import heads_back, heads_first, pieces, scores, seen, weights


def attention_backward(
    dy: torch.Tensor,
    y: torch.Tensor,
    top: torch.Tensor,
    total: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    window: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """dy and y float32 [B, A, N, D], top and total int32 [B, A, N], and what `attention` took -> dq float32
    [B, A, N, D], dk and dv float32 [B, S, N, D]."""
    batch, queries, heads, dim = q.shape
    positions = k.shape[1]
    (_, u), s = scale_of(dim), shift_of(dim)
    visible = seen(queries, positions, window, q.device)
    dy, y, top, total, q, k, v = (heads_first(x) for x in (dy, y, top[..., None], total[..., None], q, k, v))
    f, e = _gradient(dy, total)
    lost = (e == 127) | ~y.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
    m = (y.nan_to_num(nan=0.0) * 2.0**13).clamp(-32512, 32512).long()
    mean = (f * m).sum(-1, keepdim=True) + 128 >> 8
    # all products are exact in float64: the largest sum, of w * f over 65535 queries, is below 2^53
    z_q = torch.empty(q.shape, dtype=torch.float64, device=q.device)
    z_k, z_v = (torch.zeros(k.shape, dtype=torch.float64, device=q.device) for _ in range(2))
    for some, rows in pieces(batch * heads, queries, positions):
        w = weights(top[some, rows], scores(q[some, rows], k[some]), visible[rows], u)
        wide = f[some, rows].double()
        d = (wide @ v[some].double().mT).long() - mean[some, rows]
        ds = (w * d + (1 << s - 1) >> s).double()
        z_q[some, rows] = ds @ k[some].double()
        z_k[some] += ds.mT @ q[some, rows].double()
        z_v[some] += w.double().mT @ wide
    ln_2 = torch.tensor(LN_2_BITS, dtype=torch.int32, device=q.device).view(torch.float32)
    power = s + e - 30 - u
    dq, dk, dv = (
        heads_back(nan_where(lost, found), batch)
        for found in (
            shifted(z_q.float() * ln_2, power),
            shifted(z_k.float() * ln_2, power),
            shifted(z_v.float(), e - 30),
        )
    )
    return dq, dk, dv


def _gradient(dy: torch.Tensor, total: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """f int64 [X, A, D] and e int32 [X, 1, 1] of G."""
    per_weight = dy / (total.float() * 2.0**-14)
    e = exponent_of(per_weight.flatten(1), 1).unsqueeze(-1)
    return fraction(per_weight, e).long(), e
