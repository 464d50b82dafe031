"""Trits to the dense format, five a byte (ARB-PACK-004, -005)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .pack import check_trits

POWERS_OF_3 = (1, 3, 9, 27, 81)


def pack_dense(trits: torch.Tensor) -> torch.Tensor:
    """trits int8 [R, C] -> uint8 [R, ceil(C/5)]. Raises ValueError for a value outside -1..1."""
    check_trits(trits)
    codes = F.pad(trits.to(torch.int32) + 1, (0, -trits.shape[1] % 5), value=1)
    weights = torch.tensor(POWERS_OF_3, dtype=torch.int32, device=trits.device)
    return (codes.view(len(trits), -1, 5) * weights).sum(-1).to(torch.uint8)
