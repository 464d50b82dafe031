"""The dense format to trits, legality checked (ARB-PACK-006)."""

from __future__ import annotations

import torch

from .pack_dense import POWERS_OF_3


def unpack_dense(dense: torch.Tensor, columns: int) -> torch.Tensor:
    """dense uint8 [R, ceil(C/5)] -> trits int8 [R, C]. Raises ValueError for bytes over 242 and for padding
    not code 1."""
    powers = torch.tensor(POWERS_OF_3, dtype=torch.int32, device=dense.device)
    trits = (dense.to(torch.int32).unsqueeze(-1) // powers % 3).flatten(1) - 1
    illegal = dense > 242
    padding = (trits[:, columns:] != 0).any(dim=1)
    illegal[:, -1] |= padding
    places = illegal.nonzero()
    if len(places):
        row, column = places[0].tolist()
        raise ValueError(
            f"dense[{row}, {column}] = {dense[row, column].item()}, "
            "expected a byte 0..242 whose padding holds code 1"
        )
    return trits[:, :columns].to(torch.int8)
