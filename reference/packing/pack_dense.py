"""Trits to bytes, five a byte in base 3 (section 2).

3^5 = 243 fits a byte, so a trit costs 1.6 bits, where four a byte cost 2 and log2(3) = 1.585 is the least.
No operation computes on it.
"""

import numpy as np
from numpy.typing import NDArray

from ..limits import narrow
from .pack import padded_codes


def pack_dense(trits: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Trits int8 [R, C] to dense uint8 [R, ceil(C/5)] (ARB-PACK-004, -005).

    `ValueError` for a value outside -1..1, with its row and column; `TypeError` for another dtype.
    """
    places = 3 ** np.arange(5, dtype=np.int64)
    return narrow((padded_codes(trits, 5) * places).sum(axis=2), np.uint8)
