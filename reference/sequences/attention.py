"""Softmax attention in integers (section 13)."""

import numpy as np
from numpy.typing import NDArray

from ..limits import narrow, wide
from ..rows.fixed_point import NAN, Floats, float32
from .heads import Int8s
from .scores import check_attended, is_poisoned, products, scale_of, seen, weights_below

Int32s = NDArray[np.int32]


def attention(q: Int8s, k: Int8s, v: Int8s, window: int) -> tuple[Floats, Int32s, Int32s]:
    """q int8 [B, A, N, D], k and v int8 [B, S, N, D] to y float32 [B, A, N, D], top and total int32 [B, A, N]
    (ARB-ATT-001 to -004). `TypeError` for another dtype, `ValueError` for another shape."""
    window = check_attended(q, k, v, window)
    batch, queries, heads, dim = q.shape
    visible = seen(queries, k.shape[1], window)
    u = scale_of(dim).u
    y = np.empty(q.shape, np.float32)
    top, total = (np.empty(q.shape[:3], np.int32) for _ in range(2))
    for b, n in np.ndindex(batch, heads):
        z = products(q[b, :, n], k[b, :, n])
        largest = np.where(visible, z, z.min()).max(axis=1, keepdims=True)
        w = np.where(visible, weights_below(largest, z, u), 0)
        sums = w.sum(axis=1, keepdims=True)
        lost = is_poisoned(k[b, :, n]) | is_poisoned(v[b, :, n])
        poisoned = is_poisoned(q[b, :, n]) | (visible & lost).any(axis=1)
        found = float32(w @ wide(v[b, :, n])) / float32(sums) * np.float32(2**-5)
        y[b, :, n] = np.where(poisoned[:, np.newaxis], NAN, found)
        top[b, :, n] = narrow(np.where(poisoned, 0, largest[:, 0]), np.int32)
        total[b, :, n] = narrow(np.where(poisoned, 0, sums[:, 0]), np.int32)
    return y, top, total
