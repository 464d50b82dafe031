"""1 / (1 + e^-x), element by element (section 13)."""

import numpy as np
from numpy.typing import NDArray

from ..limits import check_array
from ..rows.fixed_point import NAN, float32
from .exponential import ONE, octaves, weight


def sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """x float32 [R, C] to y float32 [R, C] (ARB-SOFT-003). `TypeError` for another dtype."""
    check_array("x", x, np.float32, None, None)
    nan = np.isnan(x)
    size = np.where(nan, np.float32(0), np.abs(x))
    w = weight(octaves(size))
    y = float32(np.where(x < 0, w, ONE)) / float32(ONE + w)
    return np.where(nan, NAN, y)
