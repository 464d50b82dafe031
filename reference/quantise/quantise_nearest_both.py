"""Rows of float32 to int8 in both layouts: as they are, and transposed for the weight gradient's product."""

import numpy as np
from numpy.typing import NDArray

from .quantise_nearest import quantise_nearest


def quantise_nearest_both(
    x: NDArray[np.float32],
) -> tuple[NDArray[np.int8], NDArray[np.int8], NDArray[np.int8]]:
    """x float32 [R, C] to q int8 [R, C], q_t int8 [C, R] and e int8 [R] (ARB-QUANT-011).

    `TypeError` for another dtype.
    """
    q, e = quantise_nearest(x)
    return q, q.T.copy(), e  # of one row or column an array of its own too
