"""Trits to 2-bit codes (ARB-PACK-001, -002, -004)."""

from __future__ import annotations

import torch

from .codes import encode


def check_trits(trits: torch.Tensor) -> None:
    """Refuse a value outside -1..1, naming its place."""
    illegal = ((trits < -1) | (trits > 1)).nonzero()
    if len(illegal):
        row, column = illegal[0].tolist()
        raise ValueError(f"trits[{row}, {column}] = {trits[row, column].item()}, expected -1, 0 or 1")


def pack(trits: torch.Tensor) -> torch.Tensor:
    """trits int8 [R, C] -> codes uint8 [R, ceil(C/4)]. Raises ValueError for a value outside -1..1."""
    check_trits(trits)
    return encode(trits)
