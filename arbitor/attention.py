"""Causal attention with rotary positions, a KV cache and a sliding window as runtime state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from .between.work import Past

if TYPE_CHECKING:
    from .parts import Parts


class CausalAttention(nn.Module):
    """Multi-head attention between two projections; position t sees t-window+1..t (ARB-MODEL-002).

    The cache holds keys and values of earlier calls as attention takes them, at most window - 1 positions;
    it is a plain attribute, so no checkpoint sees it (ARB-MODEL-003).
    """

    def __init__(self, d_model: int, heads: int, window: int | None, parts: Parts) -> None:
        super().__init__()
        self.heads, self.window, self.work = heads, window, parts.work
        self.qkv = parts.linear(d_model, 3 * d_model)
        self.out = parts.linear(d_model, d_model)
        self._cache: Past | None = None

    def reset_runtime_state(self) -> None:
        """Forget earlier calls."""
        self._cache = None

    def forward(self, x: torch.Tensor, start: int, stateful: bool, causal: bool = True) -> torch.Tensor:
        """x float32 [B, T, d] of the positions from `start` on -> [B, T, d]; `stateful` continues from the
        cache and extends it; without `causal` every position sees all."""
        past = self._past(len(x)) if stateful else None
        y, seen = self.work.attend(self.qkv(x), self.heads, self.window if causal else 0, start, past)
        if stateful:
            self._keep(*seen)
        projected: torch.Tensor = self.out(self.work.norm(y))
        return projected

    def _past(self, batch: int) -> Past | None:
        if self._cache is not None and len(self._cache[0]) != batch:
            raise ValueError(
                f"the KV cache holds a batch of {len(self._cache[0])}, got {batch}; "
                "call reset_runtime_state first"
            )
        return self._cache

    def _keep(self, k: torch.Tensor, v: torch.Tensor) -> None:
        """Keys and values [B, S, N, D] of what a window can still see."""
        first = 0 if self.window is None else max(k.shape[1] - (self.window - 1), 0)
        self._cache = (k[:, first:].detach(), v[:, first:].detach())
