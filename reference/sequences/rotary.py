"""Angles of positions, in turns, by integers (section 13)."""

from decimal import Decimal, localcontext
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..limits import check_integer, narrow
from .scores import MOST_DIM, MOST_POSITIONS

PI: Final = Decimal("3.141592653589793238462643383279502884197169399375105820974944592307816")
BASE: Final = 10_000
TURN: Final = 2**16  # phases


def frequencies(half: int) -> list[int]:
    """F of each i: what a position adds to a phase, in 2^-64 of a turn (ARB-ROT-001)."""
    with localcontext() as context:
        context.prec = 60
        turns = (BASE ** (-Decimal(i) / half) / (2 * PI) for i in range(half))
        return [int(2**64 * turn) for turn in turns]


def rotary(first: int, count: int, head_dim: int) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """cos and sin int16 [count, head_dim / 2] of the positions first .. first + count - 1 (ARB-ROT-001)."""
    first = check_integer("first", first, 0, 2**31 - 1)
    count = check_integer("count", count, 1, MOST_POSITIONS)
    half, odd = divmod(check_integer("head_dim", head_dim, 2, MOST_DIM), 2)
    if odd:
        raise ValueError(f"head_dim is {head_dim}, expected an even number")
    positions = range(first, first + count)
    phases = np.array(
        [[((t * f % 2**64 + 2**47) >> 48) % TURN for f in frequencies(half)] for t in positions]
    )
    # no multiple of a turn's 2^-16 comes nearer than 5e-7 to a half of a unit, so float64 is enough
    angles = phases * (2 * np.pi / TURN)
    cos, sin = (np.rint(2**14 * turned) for turned in (np.cos(angles), np.sin(angles)))
    return narrow(cos, np.int16), narrow(sin, np.int16)
