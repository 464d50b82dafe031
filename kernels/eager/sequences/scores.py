"""Weights of scores (ARB-ATT-001, -002), and the pieces in which a large square of them is made."""

from __future__ import annotations

from collections.abc import Iterator

import torch

PIECE = 1 << 22  # scores at a time


def seen(queries: int, positions: int, window: int, device: torch.device) -> torch.Tensor:
    """Which of the positions each query sees, bool [A, S]."""
    place = torch.arange(positions, device=device)
    behind = place[positions - queries :, None] - place
    return (behind >= 0) & (behind < window) if window else torch.ones_like(behind, dtype=torch.bool)


def heads_first(x: torch.Tensor) -> torch.Tensor:
    """[B, T, N, D] -> [B * N, T, D]."""
    return x.transpose(1, 2).flatten(0, 1)


def heads_back(x: torch.Tensor, batch: int) -> torch.Tensor:
    """[B * N, T, ...] -> [B, T, N, ...] in C order."""
    back: torch.Tensor = x.unflatten(0, (batch, -1)).transpose(1, 2)
    return back.contiguous()


def pieces(heads: int, queries: int, positions: int) -> Iterator[tuple[slice, slice]]:
    """Slices of heads and of queries that have about PIECE scores each."""
    rows = min(max(PIECE // positions, 1), queries)
    some = max(PIECE // (positions * rows), 1) if rows == queries else 1
    for head in range(0, heads, some):
        for row in range(0, queries, rows):
            yield slice(head, head + some), slice(row, row + rows)


def scores(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """z int32 [X, A, S] of int8 [X, A, D] and [X, S, D]: with D up to 256 every sum is a float32."""
    return (q.float() @ k.float().mT).int()


def weights(top: torch.Tensor, z: torch.Tensor, visible: torch.Tensor, u: int) -> torch.Tensor:
    """w int32 [X, A, S] of scores z beside their row's largest [X, A, 1]."""
    t = (top - z).clamp(0, 15 << u) << 16 - u
    f, n = t & 0xFFFF, t >> 16
    p = 498026175 - 1315 * f >> 16
    p = 1485659542 - p * f >> 16
    p = 2147385344 - p * f >> 16
    return torch.where(visible, p + (1 << n) >> n + 1, 0)
