"""The gradient of `softmax` with respect to its argument (section 13)."""

import numpy as np
from numpy.typing import NDArray

from ..limits import check_array
from ..rows.fixed_point import float32, poisoned_as_nan, power_of_two, rows_of, shifted

MOST = -6  # the exponent of a row of probabilities: 1 <= 127 * 2^-6


def softmax_backward(dp: NDArray[np.float32], p: NDArray[np.float32]) -> NDArray[np.float32]:
    """dp and p float32 [R, C] to dx float32 [R, C] (ARB-SOFT-002). `TypeError` for another dtype."""
    check_array("dp", dp, np.float32, None, None)
    check_array("p", p, np.float32, *dp.shape)
    change, row = rows_of(dp), rows_of(p)
    poisoned = change.poisoned | row.poisoned | (row.e > MOST)
    total = (row.coarse * change.coarse).sum(axis=1, keepdims=True)
    mean = float32(total) * power_of_two(np.minimum(row.e, MOST))
    v = (float32(change.f) - mean) * float32(row.f)
    return poisoned_as_nan(shifted(v, change.e + row.e - 32), poisoned)
