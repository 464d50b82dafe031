"""What the two products of section 5 share: checked weights, and rows of float32 from integer sums.

Not an operation; `linear_forward` and `input_gradient` are its callers.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..groups import spread
from ..limits import (
    POISONED,
    Array,
    Ints,
    ceil_div,
    check_array,
    check_bound,
    check_extent,
    check_range,
    narrow,
    wide,
)
from ..packing.unpack import unpack
from ..quantise.exponents import scaled_float32

NAN_BITS: Final = 0x7FC00000  # ARB-LIN-004


def scaled_weights(codes: Array, e: Array, e_base: int, e_span: int, group_size: int, columns: int) -> Ints:
    """w^[o, i] = trit << (e - e_base), int64 [O, columns], of a matrix within ARB-STATE-003 and -005."""
    e_base, e_span = check_bound("e_base", e_base), check_bound("e_span", e_span)
    group_size = check_bound("group_size", group_size)
    check_extent("in-features", columns, e_span)
    trits = unpack(codes, columns)
    check_extent("out-features", trits.shape[0], e_span)
    check_array("e", e, np.int8, trits.shape[0], ceil_div(columns, group_size))
    check_range("e", e, e_base, e_base + e_span)
    return wide(trits) * 2 ** spread(wide(e) - e_base, group_size, columns)


def rows_to_float(z: Ints, row_exponents: Array, e_base: int) -> NDArray[np.float32]:
    """float32(Z) * 2^k, k = min(e_row + e_base, 127); NaN where the row is poisoned (ARB-LIN-001..004)."""
    k = np.minimum(wide(row_exponents) + e_base, 127)[:, np.newaxis]
    y = scaled_float32(narrow(z, np.int32), k)
    y.view(np.uint32)[row_exponents == POISONED] = NAN_BITS
    return y
