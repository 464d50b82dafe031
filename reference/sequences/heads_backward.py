"""The gradient of `heads` with respect to its argument (section 13)."""

import numpy as np
from numpy.typing import NDArray

from ..limits import check_array
from ..rows.fixed_point import Floats, float32, poisoned_as_nan, rows_of, shifted
from .heads import Int16s, Normed, angles_of, check_heads
from .scores import scale_of


def heads_backward(
    dq: Floats, dk: Floats, dv: Floats, x: Floats, cos: Int16s, sin: Int16s
) -> NDArray[np.float32]:
    """dq, dk, dv float32 [B, P, N, 2, H], x float32 [B, P, 3, N, 2, H], cos and sin int16 [P, H] to dx as x
    (ARB-HEAD-005). `TypeError` for another dtype, `ValueError` for another shape."""
    batch, positions, _, heads, _, half = x.shape if getattr(x, "ndim", 0) == 6 else (None,) * 6
    for name, gradient in (("dq", dq), ("dk", dk), ("dv", dv)):
        check_array(name, gradient, np.float32, batch, positions, heads, 2, half)
    check_heads(x, cos, sin)
    normed = Normed(x)
    change = rows_of(np.stack((dq, dk, dv), axis=2).reshape(normed.row.f.shape))
    g = normed.laid_out(float32(change.f))
    g[:, :, 0] *= scale_of(2 * x.shape[-1]).kappa
    c, s = angles_of(cos, sin)
    first, second = g[:, :, :2, :, 0].copy(), g[:, :, :2, :, 1].copy()
    g[:, :, :2, :, 0] = first * c + second * s
    g[:, :, :2, :, 1] = second * c - first * s
    turned = g.reshape(normed.row.f.shape)
    coarse = (turned.astype(np.int64) + 128) >> 8
    along = (normed.row.coarse * coarse).sum(axis=1, keepdims=True)
    bound = normed.at_bound
    share = float32(np.where(bound, 0, along)) / float32(np.where(bound, 1, normed.total))
    dx = shifted((turned - float32(normed.row.f) * share) * normed.factor, change.e - normed.row.e)
    return normed.laid_out(poisoned_as_nan(dx, change.poisoned | normed.row.poisoned))
