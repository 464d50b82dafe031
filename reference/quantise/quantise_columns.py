"""The operand of the weight gradient: dy, rescaled by the exponents of x, a column at a time (section 4)."""

import numpy as np
from numpy.typing import NDArray

from ..limits import POISONED, check_array, check_row_exponents, check_tokens, wide
from .exponents import quantise_sets, split, times_power
from .quantise_stochastic import rounding_bits


def quantise_columns(
    dy: NDArray[np.float32],
    e_x: NDArray[np.int8],
    seed: int,
    step: int,
    stream: int,
    first_row: int,
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """dy float32 [T, O] and e_x int8 [T] to q int8 [T, O] and e int8 [O] (ARB-QUANT-010).

    A column with a NaN, an infinity or an overflow gives e = 127 and q = 0, and so does every column when one
    e_x is 127. `ValueError` for an exponent that no quantiser gives or an integer out of bounds.
    """
    check_array("dy", dy, np.float32, None, None)
    check_tokens("dy", dy.shape[0])
    check_row_exponents("e_x", e_x, dy.shape[0])
    noise = rounding_bits(dy.shape, seed, step, stream, first_row)
    exponent = wide(e_x)[:, np.newaxis]
    d = times_power(split(dy), exponent)
    d = d._replace(finite=d.finite & (exponent != POISONED))
    return quantise_sets(d, noise, axis=0)
