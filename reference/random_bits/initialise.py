"""The state before the first step (section 1, initial state)."""

import numpy as np
from numpy.typing import NDArray

from ..limits import INITIAL_CODES, INT32_MAX, check_bound, check_integer, narrow
from ..packing.pack import pack
from .philox import stream_of, word


def initial_exponent(in_features: int) -> int:
    """ARB-INIT-002: e = -r, r the largest integer with 3 * 4^r <= 4 * I."""
    in_features = check_integer("in_features", in_features, 1, INT32_MAX)
    r = 0
    while 3 * 4 ** (r + 1) <= 4 * in_features:
        r += 1
    return -r


def initial_base(in_features: int, e_span: int) -> int:
    """ARB-INIT-003: e_base = e - e_span // 2."""
    return initial_exponent(in_features) - check_bound("e_span", e_span) // 2


def initialise(out_features: int, in_features: int, seed: int, tensor_id: int) -> NDArray[np.uint8]:
    """Codes uint8 [O, ceil(I/4)] of ARB-INIT-001.

    `ValueError` for an extent, seed or tensor_id outside ARB-STATE-005.
    """
    out_features = check_integer("out_features", out_features, 1, INT32_MAX)
    in_features = check_integer("in_features", in_features, 1, INT32_MAX)
    seed, tensor_id = check_bound("seed", seed), check_bound("tensor_id", tensor_id)
    o = np.arange(out_features, dtype=np.int64)[:, np.newaxis]
    i = np.arange(in_features, dtype=np.int64)
    codes = (word(o * in_features + i, seed, 0, stream_of(tensor_id, INITIAL_CODES)) * 3) >> 32
    return pack(narrow(codes - 1, np.int8))
