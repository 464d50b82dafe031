"""Groups of weights that share an exponent: sums over them, what belongs to one, bits of integers."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def groups_of(x: torch.Tensor, group_size: int) -> torch.Tensor:
    """[O, I] -> [O, G, g], the last group padded with zeros."""
    padded = F.pad(x, (0, -x.shape[1] % group_size))
    return padded.view(x.shape[0], -1, group_size)


def spread(x: torch.Tensor, group_size: int, columns: int) -> torch.Tensor:
    """What belongs to a group, for each of its elements: [O, G] -> [O, I]."""
    return x.repeat_interleave(group_size, dim=1)[:, :columns]


def lengths(columns: int, group_size: int, device: torch.device) -> torch.Tensor:
    """Elements of each group of a row of so many columns, int64 [G]."""
    first = torch.arange(0, columns, group_size, device=device)
    return (columns - first).clamp_(max=group_size)


def bit_length(m: torch.Tensor) -> torch.Tensor:
    """Bits of non-negative int64 values below 2^53, read off the exponent of the exact float64."""
    return torch.where(m > 0, (m.double().view(torch.int64) >> 52) - 1022, 0)
