"""The gradients of `attention` with respect to queries, keys and values (section 13)."""

import numpy as np

from ..limits import check_array, check_range, wide
from ..rows.fixed_point import NAN, Floats, float32, rows_of, shifted
from .attention import Int32s
from .heads import Int8s
from .scores import check_attended, clamped, products, scale_of, seen, weights_below

LN_2 = np.uint32(0x3F317218).view(np.float32)


def attention_backward(
    dy: Floats, y: Floats, top: Int32s, total: Int32s, q: Int8s, k: Int8s, v: Int8s, window: int
) -> tuple[Floats, Floats, Floats]:
    """dy and y float32 [B, A, N, D], top and total int32 [B, A, N], q, k, v and window of `attention` to dq
    float32 [B, A, N, D], dk and dv float32 [B, S, N, D] (ARB-ATT-005, -006). `TypeError` for another dtype,
    `ValueError` for another shape."""
    shape = q.shape if getattr(q, "ndim", 0) == 4 else (None,) * 4
    check_array("dy", dy, np.float32, *shape)
    check_array("y", y, np.float32, *shape)
    check_array("top", top, np.int32, *shape[:3])
    check_array("total", total, np.int32, *shape[:3])
    window = check_attended(q, k, v, window)
    check_range("top", top, -(2**30), 2**30)
    check_range("total", total, 0, 2**30)
    batch, queries, heads, dim = q.shape
    visible = seen(queries, k.shape[1], window)
    u, s = scale_of(dim).u, 15 + (dim - 1).bit_length()
    dq, dk, dv = (np.empty(of.shape, np.float32) for of in (q, k, v))
    for b, n in np.ndindex(batch, heads):
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            per_weight = dy[b, :, n] / (float32(total[b, :, n, np.newaxis]) * np.float32(2**-14))
        change = rows_of(per_weight.reshape(1, -1))
        f, e = change.f.reshape(per_weight.shape), change.e
        mean = ((f * clamped(y[b, :, n])).sum(axis=1, keepdims=True) + 128) >> 8
        z = products(q[b, :, n], k[b, :, n])
        w = np.where(visible, weights_below(wide(top[b, :, n, np.newaxis]), z, u), 0)
        ds = (w * (f @ wide(v[b, :, n]).T - mean) + 2 ** (s - 1)) >> s
        poisoned = change.poisoned | ~np.isfinite(y[b, :, n]).all()
        found = (
            shifted(float32(ds @ wide(k[b, :, n])) * LN_2, s + e - 30 - u),
            shifted(float32(ds.T @ wide(q[b, :, n])) * LN_2, s + e - 30 - u),
            shifted(float32(w.T @ f), e - 30),
        )
        for gradient, values in zip((dq, dk, dv), found, strict=True):
            gradient[b, :, n] = np.where(poisoned, NAN, values)
    return dq, dk, dv
