"""Rows of the table by token (ARB-EMB-001)."""

from __future__ import annotations

import torch

from ..packing.codes import decode
from ..quantise.exponents import power_of_two
from .tokens import refuse_outside


def embedding_forward(
    tokens: torch.Tensor, codes: torch.Tensor, e: torch.Tensor, group_size: int, columns: int
) -> torch.Tensor:
    """tokens int64 [T], codes uint8 [V, ceil(D/4)], e int8 [V, G] -> y float32 [T, D]. Raises ValueError for
    a bad token."""
    refuse_outside(tokens, codes.shape[0])
    scale = power_of_two(e.index_select(0, tokens).to(torch.int32)).repeat_interleave(group_size, dim=1)[
        :, :columns
    ]
    return decode(codes.index_select(0, tokens), columns).float() * scale
