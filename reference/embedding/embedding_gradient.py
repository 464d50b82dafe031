"""The gradient of an embedding table, summed over the tokens of a step (section 7).

A token that occurs several times adds up its rows. The sums are of integers and so the same in every order;
with one exponent for the whole of dy they need no scales.
"""

import numpy as np
from numpy.typing import NDArray

from ..limits import INT32_MAX, check_integer, check_quantised, narrow, wide
from .embedding_forward import check_token_array


def embedding_gradient(tokens: NDArray[np.int64], q: NDArray[np.int8], rows: int) -> NDArray[np.int32]:
    """tokens int64 [T] and q int8 [T, D] to G int32 [V, D], V = rows (ARB-EMB-003)."""
    rows = check_integer("rows", rows, 1, INT32_MAX)
    check_token_array(tokens, rows)
    check_quantised("q", q, tokens.shape[0], None)
    total = np.zeros((rows, q.shape[1]), np.int64)
    np.add.at(total, tokens, wide(q))
    return narrow(total, np.int32)
