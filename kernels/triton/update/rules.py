"""The rules of section 6 on tiles in registers: votes, firing and scale votes.

Everything is widened before it is computed: int32 for accumulators, int64 for gradients (|-2^31| is no
int32) and their products.
"""

from __future__ import annotations

import triton
import triton.language as tl

VOTE, SCALE_VOTE = tl.constexpr(3), tl.constexpr(4)  # purposes of the random bits (ARB-RNG-005)


@triton.jit
def sign(x):
    """int32 sign of integers."""
    return (x > 0).to(tl.int32) - (x < 0).to(tl.int32)


@triton.jit
def bit_length(m):
    """int64 bits of integers 0 <= m < 2^53, read off the exponent of the exact float64."""
    exponent = m.to(tl.float64).to(tl.int64, bitcast=True) >> 52
    return tl.where(m > 0, exponent - 1022, 0)


@triton.jit
def mean_bit_length(total, count):
    """int64 bit_length(total // count) without the division, count >= 1.

    With a and b the bit lengths of the two, the quotient has a - b bits, or one more if total reaches
    count * 2^(a - b).
    """
    wide = total.to(tl.int64)
    divisor = count.to(tl.int64)
    shift = bit_length(wide) - bit_length(divisor)
    up = tl.maximum(shift, 0)
    return tl.where(shift >= 0, up + (wide >= (divisor << up)).to(tl.int64), 0)


@triton.jit
def votes(gradient, factor, shift, r16, vote_max, RULE: tl.constexpr):
    """int32 [R, C] votes, in quarters as vote_max, of gradients int32 [R, C] (ARB-VOTE-001, -002, -003).

    `factor` and `shift`, below 2^31 and 63, broadcast to [R, C]; r16 is int32 [R, C]. The rule `sign` reads
    none of the three.
    """
    if RULE == "sign":
        vote = -4 * sign(gradient)
    else:
        # 128 quarters are the largest vote_max
        share = (tl.abs(gradient.to(tl.int64)) * factor) >> shift
        share = tl.minimum(share, 128 << 16).to(tl.int32)
        limited = tl.minimum((share + r16) >> 16, vote_max)
        vote = tl.where(gradient > 0, -limited, tl.where(gradient < 0, limited, 0))
    return vote


@triton.jit
def fire(trit, t_accum, vote, threshold):
    """int32 trits and accumulators after a vote, and the mask of those that fired (ARB-FIRE-001, -002).

    Votes, accumulators and the threshold are in quarters.
    """
    a = t_accum + vote
    fired = tl.abs(a) >= threshold
    moved = tl.minimum(tl.maximum(trit + sign(a), -1), 1)
    kept = tl.where(moved == trit, sign(a) * (threshold - 1), 0)
    return tl.where(fired, moved, trit), tl.where(fired, kept, a), fired


@triton.jit
def scale_step(e, e_accum, h, total, r16, scale_gain, e_threshold, e_base, e_span, limit):
    """int32 exponents and accumulators after their vote, and the vote (ARB-SCALE-001, -002).

    h and total (S) are int64, everything else int32; `limit` is the largest magnitude of the accumulator.
    """
    wins = tl.abs(h) * scale_gain > r16.to(tl.int64) * total
    vote = tl.where(wins, sign(h), 0)
    a = tl.minimum(tl.maximum(e_accum + vote, -limit), limit)
    fired = tl.abs(a) >= e_threshold
    moved = tl.minimum(tl.maximum(e + sign(a), e_base), e_base + e_span)
    return tl.where(fired, moved, e), tl.where(fired, 0, a), vote
