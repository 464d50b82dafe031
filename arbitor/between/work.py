"""What a model needs between its layers, so that twins share every line of the architecture."""

from __future__ import annotations

from typing import Protocol

import torch

Past = tuple[torch.Tensor, torch.Tensor]  # keys and values of earlier positions, [B, S, N, D] each


class Work(Protocol):
    """Norms, attention, a router's arithmetic and losses. ARBModel's own is `exact.ExactWork`."""

    def norm(self, x: torch.Tensor) -> torch.Tensor:
        """x float [..., C] over its root mean square along the last axis; no gain, no bias."""
        ...

    def attend(
        self, qkv: torch.Tensor, heads: int, window: int | None, start: int, past: Past | None
    ) -> tuple[torch.Tensor, Past]:
        """qkv float32 [B, T, 3 W] of the positions from `start` on -> y float32 [B, T, W], and the keys and
        values of all positions that were there: the `past` ones and these.

        A query sees its own position and those before it, `window` of them at most; 0 is all, None all up to
        its own. No gradient reaches the past.
        """
        ...

    def softmax(self, x: torch.Tensor) -> torch.Tensor:
        """x float32 [R, C] -> probabilities [R, C]."""
        ...

    def sigmoid(self, x: torch.Tensor) -> torch.Tensor:
        """x float32 [R, 1] -> the same shape, in 0..1."""
        ...

    def shares(self, weights: torch.Tensor) -> torch.Tensor:
        """weights float32 [R, k] over their sum in the row."""
        ...

    def spread(self, h: torch.Tensor, slots: int) -> torch.Tensor:
        """h float32 [R, C] -> [R, slots, C], the same in each slot."""
        ...

    def weighted(self, weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """weights float32 [R, k] and values [R, k, C] -> their weighted sum [R, C], in the order of k."""
        ...

    def balance(self, p: torch.Tensor, usage: torch.Tensor) -> torch.Tensor:
        """p float32 [R, E], how often each expert was chosen int64 [E] -> the balance loss (ARB-MOE-004)."""
        ...

    def cross_entropy(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """logits float32 [..., C] and targets int64 [...] -> the sum of all losses in nats, a scalar."""
        ...

    def squared_error(self, guess: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Both float32 of one shape -> the sum of all squared differences, a scalar."""
        ...
