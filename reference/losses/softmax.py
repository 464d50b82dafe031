"""Probabilities of rows (section 13)."""

import numpy as np
from numpy.typing import NDArray

from ..limits import check_array
from ..rows.fixed_point import float32, poisoned_as_nan
from .exponential import weights_of


def softmax(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """x float32 [R, C] to p float32 [R, C] (ARB-SOFT-001). `TypeError` for another dtype."""
    check_array("x", x, np.float32, None, None)
    found = weights_of(x)
    return poisoned_as_nan(float32(found.w) / float32(found.total), found.poisoned)
