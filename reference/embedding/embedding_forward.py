"""Rows of an embedding table as float32 (section 7)."""

import numpy as np
from numpy.typing import NDArray

from ..groups import spread
from ..limits import (
    BOUNDS,
    INT32_MAX,
    Array,
    ceil_div,
    check_array,
    check_bound,
    check_integer,
    check_range,
    check_tokens,
    wide,
)
from ..packing.unpack import unpack
from ..quantise.exponents import scaled_float32


def check_token_array(tokens: Array, rows: int) -> None:
    """ARB-EMB-001, ARB-STATE-005: int64 [T], each in 0..rows-1."""
    check_array("tokens", tokens, np.int64, None)
    check_tokens("tokens", tokens.shape[0])
    check_range("tokens", tokens, 0, rows - 1)


def embedding_forward(
    tokens: NDArray[np.int64],
    codes: NDArray[np.uint8],
    e: NDArray[np.int8],
    group_size: int,
    columns: int,
) -> NDArray[np.float32]:
    """tokens int64 [T], codes uint8 [V, ceil(D/4)], e int8 [V, G] to y float32 [T, D], D = columns.

    ARB-EMB-001. `ValueError` for a token outside 0..V-1, with position and value, and for illegal state.
    """
    group_size = check_bound("group_size", group_size)
    columns = check_integer("columns", columns, 1, INT32_MAX)
    trits = unpack(codes, columns)
    check_array("e", e, np.int8, trits.shape[0], ceil_div(columns, group_size))
    # Without e_base the widest range of ARB-STATE-003 is what can be checked.
    check_range("e", e, BOUNDS["e_base"][0], BOUNDS["e_base"][1] + BOUNDS["e_span"][1])
    check_token_array(tokens, trits.shape[0])
    return scaled_float32(trits[tokens], spread(wide(e)[tokens], group_size, columns))
