"""Numbers of a head that every backend has from here: its scale, and the shift of its gradient."""

from __future__ import annotations

LOG2_E = 1.4426950408889634
LN_2_BITS = 0x3F317218
POISON = -128  # of a slice of queries, keys or values, in all its elements
MOST_POSITIONS = 65535
MOST_DIM = 256


def scale_of(head_dim: int) -> tuple[float, int]:
    """What queries are multiplied by, in float64, and u: scores are in 2^-u octaves (ARB-HEAD-004)."""
    j, kappa = -1, LOG2_E / head_dim**0.5 / 2
    while kappa < 2**-0.5:
        j, kappa = j + 1, 2 * kappa
    return kappa, 10 + j


def shift_of(head_dim: int) -> int:
    """s (ARB-ATT-005)."""
    return 15 + (head_dim - 1).bit_length()
