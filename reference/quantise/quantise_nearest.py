"""Rows of float32 to int8 with a power-of-two scale, to the nearest (section 4).

The quantiser of activations. It needs no random bits: f keeps 16 fractional bits, and adding a half before
the arithmetic shift sends ties up, also those below zero.
"""

import numpy as np
from numpy.typing import NDArray

from ..limits import check_array
from .exponents import quantise_sets, split


def quantise_nearest(x: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """x float32 [R, C] to q int8 [R, C] and e int8 [R] (ARB-QUANT-001..004, -006..008).

    A row with a NaN or an infinity gives e = 127 and q = 0. `TypeError` for another dtype.
    """
    check_array("x", x, np.float32, None, None)
    return quantise_sets(split(x), 32768, axis=1)
