"""The gradient of the linear layer's input (section 5)."""

import numpy as np
from numpy.typing import NDArray

from ..limits import (
    INT32_MAX,
    check_array,
    check_integer,
    check_quantised,
    check_row_exponents,
    check_tokens,
    wide,
)
from .weights import rows_to_float, scaled_weights


def input_gradient(
    q_d: NDArray[np.int8],
    e_d: NDArray[np.int8],
    codes: NDArray[np.uint8],
    e: NDArray[np.int8],
    e_base: int,
    e_span: int,
    group_size: int,
    in_features: int,
) -> NDArray[np.float32]:
    """q_d int8 [T, O], e_d int8 [T], codes uint8 [O, ceil(I/4)], e int8 [O, G] to dx float32 [T, I].

    ARB-LIN-002..004; `ValueError` or `TypeError` for what ARB-LIN-006 and ARB-STATE-006 refuse.
    """
    in_features = check_integer("in_features", in_features, 1, INT32_MAX)
    check_array("codes", codes, np.uint8, None, None)
    check_quantised("q_d", q_d, None, codes.shape[0])
    check_tokens("q_d", q_d.shape[0])
    check_row_exponents("e_d", e_d, q_d.shape[0])
    weights = scaled_weights(codes, e, e_base, e_span, group_size, columns=in_features)
    return rows_to_float(wide(q_d) @ weights, e_d, e_base)
