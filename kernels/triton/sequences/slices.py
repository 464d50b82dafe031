"""Slices of heads in registers: the halves of a slice, their norm, and their rotation by position."""

from __future__ import annotations

import triton
import triton.language as tl

from ..quantise.exponents import exponent_of, fraction, magnitude
from ..rows.fixed_point import coarse, norm_factor, row_sums


@triton.jit
def places_of(r, heads, half):
    """Of slices r of x [B, P, 3, N, 2, H]: their part, 0..2, and where their first halves begin there and in
    a part's own array [B, P, N, 2, H]; int64 [SLICES]."""
    part = (r // heads) % 3
    own = (r // (3 * heads)) * heads + r % heads
    return part, r * 2 * half, own * 2 * half


@triton.jit
def halves(x, start, inside, half, BLOCK: tl.constexpr):
    """The two halves float32 [SLICES, BLOCK] of slices that begin at `start`; 0 outside."""
    c = tl.arange(0, BLOCK)
    at = x + start[:, None] + c[None, :]
    mask = inside[:, None] & (c < half)[None, :]
    return tl.load(at, mask=mask, other=0.0), tl.load(at + half, mask=mask, other=0.0)


@triton.jit
def fixed(first, second):
    """f int32 of both halves and e int32 of the slices (ARB-ROW-001)."""
    largest = tl.maximum(tl.max(magnitude(first), axis=1), tl.max(magnitude(second), axis=1))
    e = exponent_of(largest)
    return fraction(first, e[:, None]), fraction(second, e[:, None]), e


@triton.jit
def normed(first, second, half):
    """f of both halves, e, S, and the factor and its bound (ARB-NORM-001)."""
    f, g, e = fixed(first, second)
    c, d = coarse(f), coarse(g)
    total = row_sums(c, c) + row_sums(d, d)
    factor, bound = norm_factor(total, e, 2 * half)
    return f, g, e, total, factor, bound


@triton.jit
def angles(cos, sin, position, inside, half, BLOCK: tl.constexpr):
    """c and s float32 [SLICES, BLOCK] (ARB-HEAD-002)."""
    i = tl.arange(0, BLOCK)
    at = position[:, None] * half + i[None, :]
    mask = inside[:, None] & (i < half)[None, :]
    c = tl.load(cos + at, mask=mask, other=0).to(tl.float32) * 0.00006103515625
    s = tl.load(sin + at, mask=mask, other=0).to(tl.float32) * 0.00006103515625
    return c, s
