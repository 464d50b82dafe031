"""Squares of differences, summed row by row (section 13)."""

import numpy as np
from numpy.typing import NDArray

from ..limits import Ints, check_array

MOST = np.float32(2**20)
UNIT = np.float32(2**20)


def squared_error(x: NDArray[np.float32], y: NDArray[np.float32]) -> Ints:
    """x and y float32 [R, C] to losses int64 [R], in units of 2^-20 (ARB-LOSS-003). `TypeError` for another
    dtype."""
    check_array("x", x, np.float32, None, None)
    check_array("y", y, np.float32, *x.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        d = x - y
        finite = np.isfinite(d)
        squares = np.minimum(np.where(finite, d, np.float32(0)) ** 2, MOST)
    losses: Ints = (squares * UNIT).astype(np.int64).sum(axis=1)
    return np.where(finite.all(axis=1), losses, -1)
