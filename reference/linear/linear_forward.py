"""The forward product of the linear layer (section 5)."""

import numpy as np
from numpy.typing import NDArray

from ..limits import check_quantised, check_row_exponents, check_tokens, wide
from .weights import rows_to_float, scaled_weights


def linear_forward(
    q_x: NDArray[np.int8],
    e_x: NDArray[np.int8],
    codes: NDArray[np.uint8],
    e: NDArray[np.int8],
    e_base: int,
    e_span: int,
    group_size: int,
) -> NDArray[np.float32]:
    """q_x int8 [T, I], e_x int8 [T], codes uint8 [O, ceil(I/4)], e int8 [O, G] to y float32 [T, O].

    ARB-LIN-001, -003, -004; `ValueError` or `TypeError` for what ARB-LIN-006 and ARB-STATE-006 refuse.
    """
    check_quantised("q_x", q_x, None, None)
    check_tokens("q_x", q_x.shape[0])
    check_row_exponents("e_x", e_x, q_x.shape[0])
    weights = scaled_weights(codes, e, e_base, e_span, group_size, columns=q_x.shape[1])
    return rows_to_float(wide(q_x) @ weights.T, e_x, e_base)
