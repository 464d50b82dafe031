"""Philox4x32-10 in registers (section 3): words of a counter, and their upper halves by logical index.

Indices are int64, counter words and keys uint32. `step`, `stream` and the key's halves come from the host
as wrapped int32 (`launch.random_key`) and are named in `do_not_specialize`, so that no value of theirs
compiles a kernel again. Where a row's length is a multiple of 4 its indices split into aligned quads that
share a counter: the `_quads` functions then cost a quarter of drawing for every element.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _product(c, MULTIPLIER: tl.constexpr):
    """Upper and lower halves of the 64-bit product."""
    product = c.to(tl.uint64) * MULTIPLIER
    return (product >> 32).to(tl.uint32), product.to(tl.uint32)


@triton.jit
def philox4(block_low, block_high, step, stream, key_low, key_high):
    """The four uint32 words of the counters (block_low, block_high, step, stream) (ARB-RNG-001)."""
    c0 = block_low.to(tl.uint32)
    c1 = block_high.to(tl.uint32)
    zero = c0 ^ c0
    c2 = zero | step.to(tl.uint32)
    c3 = zero | stream.to(tl.uint32)
    k0 = key_low.to(tl.uint32)
    k1 = key_high.to(tl.uint32)
    for _ in tl.static_range(10):
        high0, low0 = _product(c0, 0xD2511F53)
        high1, low1 = _product(c2, 0xCD9E8D57)
        c0 = high1 ^ c1 ^ k0
        c1 = low1
        c2 = high0 ^ c3 ^ k1
        c3 = low0
        k0 = tl.add(k0, 0x9E3779B9, sanitize_overflow=False)
        k1 = tl.add(k1, 0xBB67AE85, sanitize_overflow=False)
    return c0, c1, c2, c3


@triton.jit
def _words_of_block(block, step, stream, key_low, key_high):
    return philox4(block.to(tl.uint32), (block >> 32).to(tl.uint32), step, stream, key_low, key_high)


@triton.jit
def word(n, step, stream, key_low, key_high):
    """uint32 word(n) of int64 indices of any shape (ARB-RNG-002)."""
    w0, w1, w2, w3 = _words_of_block(n >> 2, step, stream, key_low, key_high)
    odd = (n & 1) == 1
    return tl.where((n & 2) == 2, tl.where(odd, w3, w2), tl.where(odd, w1, w0))


@triton.jit
def word_quads(block, step, stream, key_low, key_high):
    """uint32 [..., 4 * Q]: word(n) of the four n of each counter in `block`, int64 [..., Q]."""
    w0, w1, w2, w3 = _words_of_block(block, step, stream, key_low, key_high)
    return tl.interleave(tl.interleave(w0, w2), tl.interleave(w1, w3))


@triton.jit
def r16(n, step, stream, key_low, key_high):
    """int32 r16(n) of int64 indices of any shape (ARB-RNG-004)."""
    return (word(n, step, stream, key_low, key_high) >> 16).to(tl.int32)


@triton.jit
def r16_quads(block, step, stream, key_low, key_high):
    """int32 [..., 4 * Q]: r16(n) of the four n of each counter in `block`, int64 [..., Q]."""
    return (word_quads(block, step, stream, key_low, key_high) >> 16).to(tl.int32)


@triton.jit
def r16_rows(row, first, columns, step, stream, key_low, key_high, BLOCK: tl.constexpr, QUADS: tl.constexpr):
    """int32 [R, BLOCK]: r16(row * columns + column) for BLOCK columns from `first`, rows int64 [R].

    QUADS needs `columns` and `first` to be multiples of 4.
    """
    if QUADS:
        quad = first // 4 + tl.arange(0, BLOCK // 4)
        block = row[:, None] * (columns // 4) + quad[None, :]
        drawn = r16_quads(block, step, stream, key_low, key_high)
    else:
        column = first + tl.arange(0, BLOCK)
        drawn = r16(row[:, None] * columns + column[None, :], step, stream, key_low, key_high)
    return drawn
