"""What a layer's gain is where its votes are larger than usual: ARB-CLIP-001 and -002.

No operation: it is part of a whole step, before the update, whose gain it gives.
"""

from math import isqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..limits import Array, Ints, wide
from .moment import BIAS, MANTISSA_BITS, advance, mean_square

ROWS: Final = 32


def rows_looked_at(rows: int) -> Ints:
    """The numbers of the rows of which the gradient is looked at, of so many."""
    n = min(rows, ROWS)
    return np.arange(n, dtype=np.int64) * rows // n


def squared_votes(
    gradient: Array, e_g: Array, moment: NDArray[np.int32], group_size: int, updates: int
) -> tuple[int, int]:
    """A and B from the G int32 [n, I] of the rows looked at, their exponents [n] and moments [n, G], and how
    many updates the layer had."""
    a, x_a = mean_square(wide(gradient), wide(e_g), group_size)
    done = np.full((len(gradient), 1), updates, dtype=np.int64)
    new = advance(wide(moment), (a, x_a), done)
    m, d = new & (2**MANTISSA_BITS - 1), x_a - ((new >> MANTISSA_BITS) - BIAS)
    known = m > 0
    d = np.where(known, d, 0)
    ratio = ((a << (16 + np.maximum(d, 0))) >> np.minimum(np.maximum(-d, 0), 62)) // np.maximum(m, 1)
    return int(ratio[known].sum()), int(known.sum()) << 16


def clipped(gain: int, votes: int, usual: int) -> int:
    """The gain that sums A and B leave of `gain`."""
    return gain if votes <= usual else isqrt(gain * gain * usual // votes)
