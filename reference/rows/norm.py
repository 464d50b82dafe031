"""x over its root mean square, row by row (section 13)."""

import numpy as np
from numpy.typing import NDArray

from ..limits import check_array
from .fixed_point import float32, norm_factor, poisoned_as_nan, rows_of


def norm(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """x float32 [R, C] to y float32 [R, C] (ARB-NORM-001). `TypeError` for another dtype."""
    check_array("x", x, np.float32, None, None)
    row = rows_of(x)
    total = (row.coarse**2).sum(axis=1, keepdims=True)
    factor, _ = norm_factor(row, total)
    return poisoned_as_nan(float32(row.f) * factor, row.poisoned)
