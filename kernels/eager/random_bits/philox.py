"""Words of the counter-based generator, as an operation of their own (ARB-RNG-001, -002)."""

from __future__ import annotations

import torch

from .generator import random_words, split_seed


def philox(
    first: int, count: int, seed: int, step: int, stream: int, device: str | torch.device = "cpu"
) -> torch.Tensor:
    """word(first) ... word(first + count - 1), int64 [count]."""
    return random_words(first, count, split_seed(seed), step, stream, device)
