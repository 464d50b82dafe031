"""Votes, firing and packing of a tile that holds whole groups, for the fused update (section 6).

A tile is [L, Q, 4]: lines of one group each, quads of columns. The quads of the randomness, the bytes of the
codes and the vectors of memory are then the same thing. What is per element is kept to few instructions and,
quarter by quarter, to few registers.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .random_bits import philox4, r16
from .update_rules import sign


@triton.jit
def _halves(x):
    """The even and the odd quads of [L, Q] or [L, Q, 4]."""
    if len(x.shape) == 2:
        parts = tl.reshape(x, (x.shape[0], x.shape[1] // 2, 2))
    else:
        parts = tl.permute(tl.reshape(x, (x.shape[0], x.shape[1] // 2, 2, 4)), (0, 1, 3, 2))
    return tl.split(parts)


@triton.jit
def quarters(x):
    """[L, Q] or [L, Q, 4] in four parts of every fourth quad."""
    even, odd = _halves(x)
    a, c = _halves(even)
    b, d = _halves(odd)
    return a, b, c, d


@triton.jit
def _joined(even, odd):
    parts = tl.join(even, odd)
    if len(even.shape) == 3:
        parts = tl.permute(parts, (0, 1, 3, 2))
        whole = tl.reshape(parts, (even.shape[0], 2 * even.shape[1], 4))
    else:
        whole = tl.reshape(parts, (even.shape[0], 2 * even.shape[1]))
    return whole


@triton.jit
def from_quarters(a, b, c, d):
    """The inverse of `quarters`."""
    return _joined(_joined(a, c), _joined(b, d))


@triton.jit
def _places():
    return (2 * tl.arange(0, 4))[None, None, :]


@triton.jit
def _codes_of(packed):
    return (packed.to(tl.int32)[:, :, None] >> _places()) & 3


@triton.jit
def sums_of_quads(gradient, packed):
    """int64 [L, Q]: sum |G| and sum G * trit of each quad."""
    size = tl.sum(tl.abs(gradient).to(tl.uint32).to(tl.int64), axis=2)
    along = tl.sum(gradient.to(tl.int64) * (_codes_of(packed) - 1).to(tl.int64), axis=2)
    return size, along


@triton.jit
def _r16_of_quads(row, byte, columns, step, stream, key_low, key_high, QUADS: tl.constexpr):
    """r16(row * columns + column), non-negative integers [L, Q, 4], for less than 2^34 elements: counter
    word 1 is 0. QUADS: `columns` is a multiple of 4."""
    if QUADS:
        quad = row.to(tl.uint32)[:, None] * (columns // 4) + byte.to(tl.uint32)
        w0, w1, w2, w3 = philox4(quad, quad ^ quad, step, stream, key_low, key_high)
        words = tl.join(tl.join(w0, w2), tl.join(w1, w3))
        drawn = tl.reshape(words, (byte.shape[0], byte.shape[1], 4)) >> 16
    else:
        column = byte[:, :, None] * 4 + tl.arange(0, 4)[None, None, :]
        n = row.to(tl.int64)[:, None, None] * columns + column
        drawn = r16(n, step, stream, key_low, key_high).to(tl.uint32)
    return drawn


@triton.jit
def settle_quads(
    gradient, packed, accum, row, byte, columns, v, gain, vote_max, threshold, step, stream, key_low, key_high,
    RULE: tl.constexpr, QUADS: tl.constexpr,
):  # fmt: skip
    """VOTE and FIRE of quads [L, Q, 4], v uint64 [L] -> packed codes and accumulators, int32 [L, Q] numbers
    of votes that are not 0, of fires << 16, and of changes."""
    old = accum.to(tl.int32)
    if RULE == "sign":
        k = tl.abs(sign(gradient))
    else:
        # a quad's layout follows that of its codes, whose bits 8 and up are 0
        byte = byte + (packed.to(tl.int32) >> 8)
        drawn = _r16_of_quads(row, byte, columns, step, stream, key_low, key_high, QUADS)
        # |G| <= S < count * 2^v and count * gain <= 2^7 * 2^24: the shares fit, and a G of 0 never votes
        wide = tl.abs(gradient).to(tl.uint32).to(tl.uint64) * gain.to(tl.uint32).to(tl.uint64)
        share = (wide >> v[:, None, None]).to(tl.uint32)
        k = (tl.minimum(share + drawn, (vote_max << 16) | 0xFFFF) >> 16).to(tl.int32)
    # thresholds end at 127: what the clamp of ARB-FIRE-001 would change fires (section 12)
    a = tl.where(gradient > 0, old - k, old + k)
    fired = tl.abs(a) >= threshold
    code = _codes_of(packed)
    # a fired code carries 256, so that the packed word has the fires in its second byte
    moved = tl.minimum(tl.maximum(code + 256 + ((a >> 31) | 1), 256), 258)
    word = tl.sum(tl.where(fired, moved, code) << _places(), axis=2)
    kept = tl.where(fired, 0, a).to(tl.int8)
    # of 0, 1, 2 neighbours differ in bit 0
    flags = (word ^ packed.to(tl.int32)) & 0x5555
    flags = (flags & 0x1111) + ((flags >> 2) & 0x1111)
    flags = (flags & 0x0F0F) + (flags >> 4 & 0x0F0F)
    voted = tl.sum(tl.minimum(k, 1), axis=2) + (flags >> 8 << 16)
    return word.to(tl.uint8), kept, voted, flags & 0xFF
