"""The dense format to trits, legality checked (ARB-PACK-006)."""

from __future__ import annotations

import torch

from .unpack import unpack_fields

LARGEST = 3**5 - 1


def _check(dense: torch.Tensor, columns: int) -> None:
    """Refuse bytes over 242 and padding that is not code 1, naming the byte."""
    illegal = dense > LARGEST
    used = columns - 5 * (dense.shape[1] - 1)
    ones = (3 ** (5 - used) - 1) // 2  # a code 1 in each place behind
    illegal[:, -1] |= dense[:, -1].to(torch.int32) // 3**used != ones
    places = illegal.nonzero()
    if len(places):
        row, place = places[0].tolist()
        raise ValueError(
            f"dense[{row}, {place}] = {dense[row, place].item()}, "
            f"expected a byte 0..{LARGEST} whose padding holds code 1"
        )


def unpack_dense(dense: torch.Tensor, columns: int) -> torch.Tensor:
    """dense uint8 [R, ceil(C/5)] -> trits int8 [R, C]. Raises ValueError for bytes over 242 and for padding
    not code 1."""
    _check(dense, columns)
    return unpack_fields(dense, columns, 5, 3)
