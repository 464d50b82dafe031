"""Rows of float32 to int8 with a power-of-two scale, with random rounding (section 4)."""

import numpy as np
from numpy.typing import NDArray

from ..limits import Ints, check_array, check_bound
from ..random_bits.philox import r16
from .exponents import quantise_sets, split


def rounding_bits(shape: tuple[int, ...], seed: int, step: int, stream: int, first_row: int) -> Ints:
    """r16(n), n = (first_row + row) * columns + column, for an array of `shape`."""
    rows, columns = shape
    first_row = check_bound("first_row", first_row)
    seed, step, stream = check_bound("seed", seed), check_bound("step", step), check_bound("stream", stream)
    row = first_row + np.arange(rows, dtype=np.int64)[:, np.newaxis]
    return r16(row * columns + np.arange(columns, dtype=np.int64), seed, step, stream)


def quantise_stochastic(
    x: NDArray[np.float32], seed: int, step: int, stream: int, first_row: int
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """x float32 [R, C] to q int8 [R, C] and e int8 [R] (ARB-QUANT-001..003, -005..007, -009).

    A row with a NaN or an infinity gives e = 127 and q = 0. `TypeError` for another dtype, `ValueError` for
    an integer out of bounds.
    """
    check_array("x", x, np.float32, None, None)
    noise = rounding_bits(x.shape, seed, step, stream, first_row)
    return quantise_sets(split(x), noise, axis=1)
