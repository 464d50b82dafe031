"""Trits to bytes, four a byte (section 2): the format that state is kept in.

A field of two bits has a code to spare. It is illegal, and so foreign bytes are noticed when they are read.
"""

import numpy as np
from numpy.typing import NDArray

from ..limits import Array, ceil_div, check_array, check_range, narrow, wide


def padded_codes(trits: Array, per_byte: int) -> Array:
    """The codes of trits [R, C] as int64 [R, bytes, per_byte], with code 1 in the padding."""
    check_array("trits", trits, np.int8, None, None)
    check_range("trits", trits, -1, 1)  # ARB-PACK-004
    rows, columns = trits.shape
    row_bytes = ceil_div(columns, per_byte)
    codes = np.ones((rows, row_bytes * per_byte), np.int64)
    codes[:, :columns] = wide(trits) + 1
    return codes.reshape(rows, row_bytes, per_byte)


def pack(trits: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Trits int8 [R, C] to codes uint8 [R, ceil(C/4)] (ARB-PACK-001, -002, -004).

    `ValueError` for a value outside -1..1, with its row and column; `TypeError` for another dtype.
    """
    places = 4 ** np.arange(4, dtype=np.int64)
    return narrow((padded_codes(trits, 4) * places).sum(axis=2), np.uint8)
