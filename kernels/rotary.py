"""Angles of positions in integers (ARB-ROT-001): a table of the host, for every device the same."""

from __future__ import annotations

import math
from functools import lru_cache

import torch

from .heads import MOST_DIM, MOST_POSITIONS

TURN = 1 << 16  # phases
PI = 3141592653589793238462643383279502884197169399375105820974944592307816  # times 10^-69


def _root_of(number: int, index: int) -> int:
    """The largest integer whose power of that index is at most `number`: Newton's method from above."""
    x = 1 << -(-number.bit_length() // index)
    while True:
        y = ((index - 1) * x + number // x ** (index - 1)) // index
        if y >= x:
            return x
        x = y


@lru_cache
def _turns(half: int) -> list[int]:
    """Of each i what a position adds to the phase, in 2^-64 of a turn: F, of 10^4 to the -i / half with 180
    bits."""
    unit = 1 << 180
    found = []
    for i in range(half):
        common = math.gcd(i, half)
        up, index = i // common, half // common
        share = _root_of(unit**index // 10_000**up, index)
        found.append((share * 10**69 << 64) // (2 * PI * unit))
    return found


@lru_cache
def _cosines() -> torch.Tensor:
    """int16 [2^16]: nearest to 2^14 times the cosines of all phases; none is near a half (test_rotary.py)."""
    values = [round(2**14 * math.cos(phase * (2 * math.pi / TURN))) for phase in range(TURN)]
    return torch.tensor(values, dtype=torch.int16, device="cpu")


def rotary(first: int, count: int, head_dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin int16 [count, head_dim / 2] of the positions first .. first + count - 1, on the CPU.

    Raises ValueError for a first below 0, a count outside 1..65535, a head_dim that is odd or over 256.
    """
    for name, value, low, high in (
        ("first", first, 0, 2**31 - 1),
        ("count", count, 1, MOST_POSITIONS),
        ("head_dim", head_dim, 2, MOST_DIM),
    ):
        if not low <= value <= high or (name == "head_dim" and value % 2):
            even = "an even number in " if name == "head_dim" else ""
            raise ValueError(f"{name} must be {even}{low}..{high}, got {value}")
    turns = torch.tensor(_turns(head_dim // 2), dtype=torch.int64, device="cpu")
    positions = torch.arange(first, first + count, dtype=torch.int64, device="cpu")
    phases = (
        positions[:, None] * turns + (1 << 47)
    ) >> 48 & TURN - 1  # products wrap at 2^64, as they are to
    table = _cosines()
    return table[phases], table[(phases - TURN // 4) % TURN]
