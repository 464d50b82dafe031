"""The gradient of the weights, an exact integer sum over the tokens of a step (section 5).

Both operands have given up their scales: those of x went into dy before its columns were quantised, and
what is left is one power of two a row of G, which no vote depends on. 131071 * 127 * 127 is below 2^31, so
`narrow` lets every permitted sum through.
"""

import numpy as np
from numpy.typing import NDArray

from ..limits import check_quantised, check_tokens, narrow, wide


def weight_gradient(q_g: NDArray[np.int8], q_x: NDArray[np.int8]) -> NDArray[np.int32]:
    """q_g int8 [T, O] and q_x int8 [T, I] to G int32 [O, I] (ARB-LIN-005, -006)."""
    check_quantised("q_g", q_g, None, None)
    check_tokens("q_g", q_g.shape[0], "summed_tokens")
    check_quantised("q_x", q_x, q_g.shape[0], None)
    return narrow(wide(q_g).T @ wide(q_x), np.int32)
