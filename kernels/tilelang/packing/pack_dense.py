"""Trits to the dense format, five a byte (ARB-PACK-004, -005)."""

from __future__ import annotations

import torch

from .pack import pack_fields


def pack_dense(trits: torch.Tensor) -> torch.Tensor:
    """trits int8 [R, C] -> uint8 [R, ceil(C/5)]. Raises ValueError for a value outside -1..1."""
    return pack_fields(trits, 5, 3)
