"""Causal attention with rotary positions, a KV cache and a sliding window as runtime state."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import nn

from arbitor.kernels.ambient import plain

from .components import rms_norm

if TYPE_CHECKING:
    from .parts import Parts

ROTARY_BASE = 10_000.0


@lru_cache(maxsize=64)
def rotary_angles(
    start: int, count: int, head_dim: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """cos, sin float32 [T, head_dim / 2] of the positions start .. start + T - 1. Computed in float64, so a
    position has one value. They are kept, and so never made in torch.inference_mode()."""
    with plain():
        frequencies = ROTARY_BASE ** (
            -torch.arange(0, head_dim, 2, dtype=torch.float64, device=device) / head_dim
        )
        positions = torch.arange(start, start + count, dtype=torch.float64, device=device)
        angles = positions.unsqueeze(1) * frequencies
        return angles.cos().float(), angles.sin().float()


def rotate(x: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Rotate the halves of x [B, H, T, head_dim] by position."""
    cos, sin = angles
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class CausalAttention(nn.Module):
    """Multi-head attention over ternary projections; position t sees t-window+1..t (ARB-MODEL-002).

    Queries and keys are normalised. The cache holds rotated keys and values of earlier calls, at most window
    - 1 positions;
    it is a plain attribute, so no checkpoint sees it (ARB-MODEL-003).
    """

    def __init__(self, d_model: int, heads: int, window: int | None, parts: Parts) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.qkv = parts.linear(d_model, 3 * d_model)
        self.out = parts.linear(d_model, d_model)
        self._cache: tuple[torch.Tensor, torch.Tensor] | None = None

    def reset_runtime_state(self) -> None:
        """Forget earlier calls."""
        self._cache = None

    def forward(
        self, x: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor], stateful: bool, causal: bool = True
    ) -> torch.Tensor:
        """x float32 [B, T, d] -> [B, T, d]; `stateful` continues from the cache and extends it; without
        `causal` every position sees all."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1)
        )
        q, k = rotate(rms_norm(q), angles), rotate(rms_norm(k), angles)
        if stateful:
            k, v = self._extend(k, v)
        y = attend(q, k, v, self.window) if causal else attend_all(q, k, v)
        projected: torch.Tensor = self.out(rms_norm(y.transpose(1, 2).flatten(2)))
        return projected

    def _extend(self, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self._cache is not None:
            old_k, old_v = self._cache
            if old_k.shape[0] != k.shape[0]:
                raise ValueError(
                    f"the KV cache holds a batch of {old_k.shape[0]}, got {k.shape[0]}; "
                    "call reset_runtime_state first"
                )
            k, v = torch.cat([old_k, k], dim=2), torch.cat([old_v, v], dim=2)
        kept = 0 if self.window is None else max(k.shape[2] - (self.window - 1), 0)
        self._cache = (k[:, :, kept:].detach(), v[:, :, kept:].detach())
        return k, v


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int | None) -> torch.Tensor:
    """Softmax attention, q [B, H, T, D] over k, v [B, H, S, D]; the last T positions of those are q's own."""
    last = torch.arange(k.shape[2] - q.shape[2], k.shape[2], device=q.device).unsqueeze(1)
    key = torch.arange(k.shape[2], device=q.device)
    hidden = key > last
    if window is not None:
        hidden |= key <= last - window
    return _softmax_attention(q, k, v, hidden)


def attend_all(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attention of every position to all, [B, H, T, D] each."""
    return _softmax_attention(q, k, v, torch.zeros(1, 1, dtype=torch.bool, device=q.device))


def _softmax_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, hidden: torch.Tensor
) -> torch.Tensor:
    """Without a graph it is computed in float64 and rounded once, so that the answer for a token does not
    depend on how many others are computed with it (ARB-MODEL-002)."""
    dtype = q.dtype
    if not q.requires_grad:
        q, k, v = q.double(), k.double(), v.double()
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    y: torch.Tensor = scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v
    return y.to(dtype)
