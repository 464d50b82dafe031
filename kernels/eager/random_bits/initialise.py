"""Initial codes: a third of the trits are zero (ARB-INIT-001)."""

from __future__ import annotations

import torch

from ..packing.codes import encode
from .generator import random_words, split_seed


def initialise(
    out_features: int, in_features: int, seed: int, tensor_id: int, device: str | torch.device = "cpu"
) -> torch.Tensor:
    """codes uint8 [O, ceil(I/4)]."""
    words = random_words(0, out_features * in_features, split_seed(seed), 0, 16 * tensor_id, device)
    trits = ((words * 3) >> 32).to(torch.int8).view(out_features, in_features) - 1
    return encode(trits)
