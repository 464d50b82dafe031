"""Trits and 2-bit codes without the legality checks, for operations whose state was checked when it
entered."""

from __future__ import annotations

import torch
import torch.nn.functional as F

SHIFTS = (0, 2, 4, 6)


def decode(codes: torch.Tensor, columns: int) -> torch.Tensor:
    """codes uint8 [R, ceil(C/4)] -> trits int8 [R, C]."""
    fields = torch.stack([(codes >> shift) & 3 for shift in SHIFTS], dim=-1)
    return fields.flatten(1)[:, :columns].to(torch.int8) - 1


def encode(trits: torch.Tensor) -> torch.Tensor:
    """trits int8 [R, C] -> codes uint8 [R, ceil(C/4)], padding code 1."""
    fields = F.pad((trits + 1).to(torch.uint8), (0, -trits.shape[1] % 4), value=1)
    quads = fields.view(len(trits), -1, 4)
    return quads[..., 0] | (quads[..., 1] << 2) | (quads[..., 2] << 4) | (quads[..., 3] << 6)


def scaled_weight(
    codes: torch.Tensor, e: torch.Tensor, e_base: int, group_size: int, columns: int
) -> torch.Tensor:
    """w^ = trit << (e - e_base), int8 [R, C] (section 5)."""
    trits = decode(codes, columns)
    shift = (e - e_base).repeat_interleave(group_size, dim=1)[:, :columns]
    weight: torch.Tensor = trits.to(torch.int32) << shift
    return weight.to(torch.int8)
