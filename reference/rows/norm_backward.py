"""The gradient of `norm` with respect to its argument (section 13)."""

import numpy as np
from numpy.typing import NDArray

from ..limits import check_array
from .fixed_point import float32, norm_factor, poisoned_as_nan, rows_of, shifted


def norm_backward(dy: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float32]:
    """dy and x float32 [R, C] to dx float32 [R, C] (ARB-NORM-002). `TypeError` for another dtype."""
    check_array("dy", dy, np.float32, None, None)
    check_array("x", x, np.float32, *dy.shape)
    row, change = rows_of(x), rows_of(dy)
    total = (row.coarse**2).sum(axis=1, keepdims=True)
    factor, at_bound = norm_factor(row, total)
    along = (row.coarse * change.coarse).sum(axis=1, keepdims=True)
    share = float32(np.where(at_bound, 0, along)) / float32(np.where(at_bound, 1, total))
    v = (float32(change.f) - float32(row.f) * share) * factor
    return poisoned_as_nan(shifted(v, change.e - row.e), row.poisoned | change.poisoned)
