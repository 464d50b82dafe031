"""2-bit codes to trits, legality checked (ARB-PACK-003)."""

from __future__ import annotations

import torch

from .codes import decode


def unpack(codes: torch.Tensor, columns: int) -> torch.Tensor:
    """codes uint8 [R, ceil(C/4)] -> trits int8 [R, C]. Raises ValueError for code 3 and for padding that is
    not code 1."""
    fields = decode(codes, 4 * codes.shape[1])
    illegal = fields == 2
    illegal[:, columns:] = fields[:, columns:] != 0
    places = illegal.nonzero()
    if len(places):
        row, column = places[0].tolist()
        byte = codes[row, column // 4].item()
        expected = "padding code 1" if column >= columns else "a code 0, 1 or 2"
        raise ValueError(
            f"codes[{row}, {column // 4}] = {byte} (0b{byte:08b}): field {column % 4} holds "
            f"{(byte >> 2 * (column % 4)) & 3}, expected {expected}"
        )
    return fields[:, :columns].contiguous()
