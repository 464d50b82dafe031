"""Products of rows, each summed (section 13)."""

import numpy as np
from numpy.typing import NDArray

from ..limits import check_array
from .fixed_point import float32, poisoned_as_nan, rows_of, shifted


def dot(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """a and b float32 [R, C] to y float32 [R] (ARB-DOT-001). `TypeError` for another dtype."""
    check_array("a", a, np.float32, None, None)
    check_array("b", b, np.float32, *a.shape)
    left, right = rows_of(a), rows_of(b)
    total = (left.coarse * right.coarse).sum(axis=1, keepdims=True)
    y = shifted(float32(total), left.e + right.e - 16)
    return poisoned_as_nan(y, left.poisoned | right.poisoned)[:, 0]
