"""Bytes to trits, four a byte (section 2)."""

import numpy as np
from numpy.typing import NDArray

from ..limits import INT32_MAX, Ints, Mask, ceil_div, check_array, check_integer, first_index, narrow, wide


def padding_fields(row_bytes: int, per_byte: int, columns: int) -> Mask:
    """Which fields of a row, [bytes, per_byte], are padding."""
    return (np.arange(row_bytes * per_byte) >= columns).reshape(row_bytes, per_byte)


def trits_of(codes: Ints, columns: int) -> NDArray[np.int8]:
    """The trits int8 [R, columns] of fields int64 [R, bytes, per_byte]."""
    rows, row_bytes, per_byte = codes.shape
    return narrow(codes.reshape(rows, row_bytes * per_byte)[:, :columns] - 1, np.int8)


def refuse_bytes(name: str, array: NDArray[np.uint8], illegal: Mask, expected: str) -> None:
    """`ValueError` with row, byte index and byte of the first byte [R, bytes] marked illegal."""
    if illegal.any():
        row, byte = first_index(illegal)
        raise ValueError(f"{name} row {row}, byte {byte} is {array[row, byte]}, expected {expected}")


def unpack(codes: NDArray[np.uint8], columns: int) -> NDArray[np.int8]:
    """Codes uint8 [R, ceil(C/4)] to trits int8 [R, C], C = columns (ARB-PACK-001, -003).

    `ValueError` for a code 3 or padding that is not code 1, with row, byte index and byte.
    """
    columns = check_integer("columns", columns, 1, INT32_MAX)
    row_bytes = ceil_div(columns, 4)
    check_array("codes", codes, np.uint8, None, row_bytes)
    fields = (wide(codes)[:, :, np.newaxis] >> (2 * np.arange(4))) & 3
    padding = padding_fields(row_bytes, 4, columns)
    refuse_bytes("codes", codes, (fields == 3).any(axis=2), "no field of code 3")
    refuse_bytes("codes", codes, (padding & (fields != 1)).any(axis=2), "padding of code 1")
    return trits_of(fields, columns)
