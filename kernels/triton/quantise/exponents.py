"""The quantiser's core in registers (section 4): exponents off the bits, fractions, poisoned sets."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def magnitude(x):
    """int32 bits of |x|, which order as the floats do; NaN and infinity are 0x7F800000 and above."""
    return x.to(tl.int32, bitcast=True) & 0x7FFFFFFF


@triton.jit
def exponent_of(bits):
    """int32 exponents of sets whose largest magnitude is `bits`; 127 if poisoned (ARB-QUANT-002, -007)."""
    e = (bits >> 23) - 133 + ((bits & 0x7FFFFF) > 0x7E0000).to(tl.int32)
    return tl.where(bits >= 0x7F800000, 127, tl.maximum(e, -100))


@triton.jit
def power_of_two(exponent):
    """float32 2^exponent of int32 exponents in -126..127."""
    return ((exponent + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def scaled_rows(z, e, e_base):
    """float32(z) * 2^min(e + e_base, 127) of int32 sums, the one NaN in poisoned rows (ARB-LIN-001, -003,
    -004); e int32, broadcastable to z."""
    y = (z.to(tl.float32) * power_of_two(tl.minimum(e + e_base, 127))).to(tl.int32, bitcast=True)
    return tl.where(e == 127, 0x7FC00000, y).to(tl.float32, bitcast=True)


@triton.jit
def fraction(x, e):
    """int32 trunc(x * 2^(16-e)), 0 in poisoned sets (ARB-QUANT-003); e is broadcastable to x."""
    # what is poisoned is taken out before the product: a NaN has no integer
    return (tl.where(e == 127, 0.0, x) * power_of_two(16 - e)).to(tl.int32)
