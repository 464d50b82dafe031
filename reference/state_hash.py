"""The state hash: one number for the whole state, equal on every backend (ARB-STATE-008)."""

import hashlib
from collections.abc import Mapping
from typing import Final

import numpy as np

from .limits import Array

DTYPES: Final = ("uint8", "int8", "int16", "int32", "int64")


def state_hash(arrays: Mapping[str, Array]) -> str:
    """SHA-256, as 64 hexadecimal digits, over the arrays in the order of their names.

    `TypeError` for what is not an array of a dtype that ARB-STATE-008 names.
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        if not isinstance(array, np.ndarray) or array.dtype.name not in DTYPES:
            found = getattr(array, "dtype", type(array).__name__)
            raise TypeError(f"{name} is {found}, expected an array of {', '.join(DTYPES)}")
        digest.update(name.encode("utf-8") + b"\0")
        digest.update(array.dtype.name.encode("ascii") + b"\0")
        for extent in (array.ndim, *array.shape):
            digest.update(extent.to_bytes(8, "little"))
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes(order="C"))
    return digest.hexdigest()
