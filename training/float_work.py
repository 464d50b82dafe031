"""What the twins do between their layers: float32 work of torch, in torch's own order of sums.

It is the arithmetic that such models are trained with elsewhere; its products may be cast (`--dtype`).
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F

from arbitor.between.work import Past
from arbitor.kernels.ambient import plain

ROTARY_BASE = 10_000.0


def rms_norm(x: torch.Tensor) -> torch.Tensor:
    """x / RMS(x) along the last axis, in float32; no gain, no bias."""
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


@lru_cache(maxsize=64)
def rotary_angles(
    start: int, count: int, head_dim: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """cos, sin float32 [T, head_dim / 2] of the positions start .. start + T - 1, by float64. They are kept,
    and so never made in torch.inference_mode()."""
    with plain():
        frequencies = ROTARY_BASE ** (
            -torch.arange(0, head_dim, 2, dtype=torch.float64, device=device) / head_dim
        )
        positions = torch.arange(start, start + count, dtype=torch.float64, device=device)
        angles = positions.unsqueeze(1) * frequencies
        return angles.cos().float(), angles.sin().float()


def rotate(x: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Rotate the halves of x [B, T, H, head_dim] by position."""
    cos, sin = (table.unsqueeze(1) for table in angles)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class FloatWork:
    """`Work` in float32: softmax attention over normalised queries and keys."""

    def norm(self, x: torch.Tensor) -> torch.Tensor:
        """x over its root mean square."""
        return rms_norm(x)

    def attend(
        self, qkv: torch.Tensor, heads: int, window: int | None, start: int, past: Past | None
    ) -> tuple[torch.Tensor, Past]:
        """Softmax attention; the past is of the rotated keys."""
        q, k, v = (part.unflatten(-1, (heads, -1)) for part in qkv.chunk(3, dim=-1))
        angles = self._angles(start, q.shape[1], q.shape[-1], q.device)
        q, k = rotate(rms_norm(q), angles), rotate(rms_norm(k), angles)
        if past is not None:
            k, v = (torch.cat(pair, dim=1) for pair in zip(past, (k, v), strict=True))
        y = _softmax_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), window)
        return y.transpose(1, 2).flatten(2), (k, v)

    def _angles(
        self, start: int, count: int, head_dim: int, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return rotary_angles(start, count, head_dim, device)

    def softmax(self, x: torch.Tensor) -> torch.Tensor:
        """torch's."""
        return x.softmax(-1)

    def sigmoid(self, x: torch.Tensor) -> torch.Tensor:
        """torch's."""
        return x.sigmoid()

    def shares(self, weights: torch.Tensor) -> torch.Tensor:
        """Over their sum."""
        return weights / weights.sum(-1, keepdim=True)

    def spread(self, h: torch.Tensor, slots: int) -> torch.Tensor:
        """As a view."""
        return h.unsqueeze(1).expand(-1, slots, -1)

    def weighted(self, weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """The weighted sum over slots."""
        return (weights.unsqueeze(-1) * values).sum(1)

    def balance(self, p: torch.Tensor, usage: torch.Tensor) -> torch.Tensor:
        """Fedus et al. 2021 (arXiv 2101.03961)."""
        shares = usage.to(p.dtype) / usage.sum()  # of two integers it is of the default dtype
        return len(usage) * (shares * p.mean(0)).sum()

    def cross_entropy(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """torch's, summed."""
        return F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), reduction="sum")

    def squared_error(self, guess: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Squares, summed."""
        return (guess.float() - truth).square().sum()


def _softmax_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int | None) -> torch.Tensor:
    """q [B, H, T, D] at the last T positions of k and v [B, H, S, D]; `window` as in `Work.attend`."""
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if window != 0:
        place = torch.arange(k.shape[2], device=q.device)
        behind = place[k.shape[2] - q.shape[2] :, None] - place
        hidden = behind < 0 if window is None else (behind < 0) | (behind >= window)
        scores = scores.masked_fill(hidden, float("-inf"))
    y: torch.Tensor = scores.softmax(-1) @ v
    return y
