"""Attention with its gradients: `heads` and `attention` in one (ARB-HEAD, ARB-ATT)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from arbitor.kernels.ambient import plain
from arbitor.kernels.registry import Backend
from arbitor.kernels.rotary import rotary

from .work import Past

ALL_BEFORE = 2**31 - 1  # the window of a query that sees all up to its own position


@lru_cache(maxsize=64)
def angles_at(
    start: int, count: int, head_dim: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin int16 [count, head_dim / 2] of the positions from `start` on (ARB-ROT-001). They are kept,
    and so never made in torch.inference_mode()."""
    with plain():
        cos, sin = rotary(start, count, head_dim)
        return cos.to(device), sin.to(device)


class Attend(torch.autograd.Function):
    """What heads give each position, of the projection of queries, keys and values; no gradient reaches the
    past."""

    @staticmethod
    def forward(
        ctx: Any, qkv: torch.Tensor, heads: int, window: int, start: int, past: Past | None, backend: Backend
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """qkv float32 [B, T, 3 W] -> y float32 [B, T, W], and all keys and values int8 [B, S, N, D]."""
        count, width = qkv.shape[1:]
        x = qkv.unflatten(-1, (3, heads, 2, width // (6 * heads)))
        angles = angles_at(start, count, 2 * x.shape[-1], x.device)
        q, k, v = (part.flatten(-2) for part in backend.heads(x, *angles))
        if past is not None:
            k, v = (torch.cat(pair, dim=1) for pair in zip(past, (k, v), strict=True))
        y, top, total = backend.attention(q, k, v, window)
        ctx.save_for_backward(y, top, total, q, k, v, x, *angles)
        ctx.window, ctx.backend = window, backend
        ctx.mark_non_differentiable(k, v)
        ctx.set_materialize_grads(False)
        return y.flatten(-2), k, v

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor | None, *_: None) -> tuple[torch.Tensor | None, ...]:
        """Of qkv."""
        if dy is None:
            return (None,) * 6
        y, *rest, x, cos, sin = ctx.saved_tensors
        gradients = ctx.backend.attention_backward(dy.reshape(y.shape).contiguous(), y, *rest, ctx.window)
        count = y.shape[1]
        parts = (found[:, -count:].unflatten(-1, (2, -1)).contiguous() for found in gradients)
        dx = ctx.backend.heads_backward(*parts, x, cos, sin)
        return dx.flatten(2), None, None, None, None, None
