"""What a row of logits says of its target, and the gradient of that (section 13)."""

import numpy as np
from numpy.typing import NDArray

from ..limits import Ints, check_array, check_range, check_tokens
from ..rows.fixed_point import float32, poisoned_as_nan
from .exponential import UNITS, log2, weights_of


def cross_entropy(x: NDArray[np.float32], targets: NDArray[np.int64]) -> tuple[Ints, NDArray[np.float32]]:
    """x float32 [T, C] and targets int64 [T] to losses int64 [T], in octaves of 2^-20, and dx float32 [T, C]
    (ARB-LOSS-001).

    `TypeError` for another dtype, `ValueError` for a target outside 0..C-1 (ARB-LOSS-002).
    """
    check_array("x", x, np.float32, None, None)
    check_tokens("x", x.shape[0])
    check_array("targets", targets, np.int64, x.shape[0])
    check_range("targets", targets, 0, x.shape[1] - 1)
    found = weights_of(x)
    rows = np.arange(len(targets))
    losses = log2(found.total[:, 0]) - 30 * 2**UNITS + found.t[rows, targets]
    dx = float32(found.w) / float32(found.total)
    dx[rows, targets] -= np.float32(1)
    return np.where(found.poisoned[:, 0], -1, losses), poisoned_as_nan(dx, found.poisoned)
