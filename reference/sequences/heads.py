"""Queries, keys and values of heads: normalised, rotated, in int8 (section 13)."""

import numpy as np
from numpy.typing import NDArray

from ..limits import Array, Ints, Mask, check_array, check_integer, narrow
from ..rows.fixed_point import Floats, Row, float32, norm_factor, rows_of
from .scores import MOST_DIM, MOST_POSITIONS, POISON, scale_of

Int8s = NDArray[np.int8]
Int16s = NDArray[np.int16]


class Normed:
    """The slices of x [B, P, 3, N, 2, H] as rows of 2H, with what ARB-NORM-001 says of each."""

    def __init__(self, x: Floats) -> None:
        self.shape = x.shape
        self.row: Row = rows_of(x.reshape(-1, 2 * x.shape[-1]))
        self.total = (self.row.coarse**2).sum(axis=1, keepdims=True)
        self.factor, self.at_bound = norm_factor(self.row, self.total)

    def laid_out(self, rows: Array) -> Array:
        """Rows as x is."""
        return rows.reshape(self.shape)

    @property
    def poisoned(self) -> Mask:
        """Of each slice, [B, P, 3, N, 1, 1]."""
        return self.row.poisoned.reshape(*self.shape[:4], 1, 1)


def angles_of(cos: Int16s, sin: Int16s) -> tuple[Floats, Floats]:
    """c and s, [P, 1, 1, H]: for [B, P, 2, N, H] (ARB-HEAD-002)."""
    c, s = (float32(table) * np.float32(2**-14) for table in (cos, sin))
    return c[:, np.newaxis, np.newaxis], s[:, np.newaxis, np.newaxis]


def check_heads(x: Array, cos: Array, sin: Array) -> None:
    """Shapes and dtypes of x and of the angles of its positions."""
    check_array("x", x, np.float32, None, None, 3, None, 2, None)
    positions, half = x.shape[1], x.shape[-1]
    check_integer("positions of x", positions, 1, MOST_POSITIONS)
    check_integer("numbers of half a head", half, 1, MOST_DIM // 2)
    check_array("cos", cos, np.int16, positions, half)
    check_array("sin", sin, np.int16, positions, half)


def rounded(y: Floats) -> Ints:
    """Units of 2^-5, to nearest, within 127 (ARB-HEAD-003)."""
    fine = (y * np.float32(2**21)).astype(np.int64)
    whole: Ints = np.clip((fine + 2**15) >> 16, -127, 127)
    return whole


def heads(x: NDArray[np.float32], cos: Int16s, sin: Int16s) -> tuple[Int8s, Int8s, Int8s]:
    """x float32 [B, P, 3, N, 2, H], cos and sin int16 [P, H] to q, k, v int8 [B, P, N, 2, H] (ARB-HEAD-001 to
    -004). `TypeError` for another dtype, `ValueError` for another shape."""
    check_heads(x, cos, sin)
    normed = Normed(x)
    y = normed.laid_out(float32(normed.row.f) * normed.factor)
    c, s = angles_of(cos, sin)
    first, second = y[:, :, :2, :, 0].copy(), y[:, :, :2, :, 1].copy()
    y[:, :, :2, :, 0] = first * c - second * s
    y[:, :, :2, :, 1] = first * s + second * c
    y[:, :, 0] *= scale_of(2 * x.shape[-1]).kappa
    whole = narrow(np.where(normed.poisoned, POISON, rounded(y)), np.int8)
    q, k, v = (whole[:, :, part].copy() for part in range(3))
    return q, k, v
