"""How tensors lie in memory, for the launchers of both GPU backends."""

from __future__ import annotations

import torch


def row_major(tensor: torch.Tensor) -> torch.Tensor:
    """The elements in C order, with the strides of that, a copy only where they are not already.

    torch calls a single row contiguous whatever its stride, and then does not view its bytes as words.
    """
    return tensor.detach().contiguous().view(-1).view(tensor.shape)
