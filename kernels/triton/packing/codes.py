"""Trits and their 2-bit codes in registers (section 2), for state that was checked when it entered."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def decode(packed):
    """packed [R, B], any integers -> trits int32 [R, 4B] in the order of the elements."""
    bits = packed.to(tl.int32)
    even = tl.interleave(bits & 3, (bits >> 4) & 3)
    odd = tl.interleave((bits >> 2) & 3, (bits >> 6) & 3)
    return tl.interleave(even, odd) - 1


@triton.jit
def encode(trits):
    """trits int32 [R, 4B] -> codes uint8 [R, B]; a padding element must be 0, whose code is 1."""
    rows: tl.constexpr = trits.shape[0]
    columns: tl.constexpr = trits.shape[1]
    even, odd = tl.split(tl.reshape(trits + 1, (rows, columns // 2, 2)))
    low, high = tl.split(tl.reshape(even | (odd << 2), (rows, columns // 4, 2)))
    return (low | (high << 4)).to(tl.uint8)
