"""Bytes to trits, five a byte in base 3 (section 2)."""

import numpy as np
from numpy.typing import NDArray

from ..limits import INT32_MAX, ceil_div, check_array, check_integer, wide
from .unpack import padding_fields, refuse_bytes, trits_of


def unpack_dense(dense: NDArray[np.uint8], columns: int) -> NDArray[np.int8]:
    """Dense uint8 [R, ceil(C/5)] to trits int8 [R, C], C = columns (ARB-PACK-005, -006).

    `ValueError` for a byte of 243 or more or padding that is not code 1, with row, byte index and byte.
    """
    columns = check_integer("columns", columns, 1, INT32_MAX)
    row_bytes = ceil_div(columns, 5)
    check_array("dense", dense, np.uint8, None, row_bytes)
    refuse_bytes("dense", dense, dense >= 243, "0..242")
    fields = wide(dense)[:, :, np.newaxis] // 3 ** np.arange(5, dtype=np.int64) % 3
    padding = padding_fields(row_bytes, 5, columns)
    refuse_bytes("dense", dense, (padding & (fields != 1)).any(axis=2), "padding of code 1")
    return trits_of(fields, columns)
