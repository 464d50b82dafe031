"""Votes, firing and packing of a tile that holds whole groups, for the fused update (section 6).

A tile is [L, Q, 4]: lines of one group each, quads of columns. The quads of the randomness, the bytes of the
codes and the vectors of memory are then the same thing. Codes are words [L, Q / 4] of four bytes, and all
that is done to elements is done to quarters [L, Q / 4, 4], quad 0, 1, 2 or 3 of each word, so that few
registers are in use at a time.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ..random_bits.generator import philox4


@triton.jit
def _halves(x):
    """The even and the odd quads of [L, Q, 4]."""
    return tl.split(tl.permute(tl.reshape(x, (x.shape[0], x.shape[1] // 2, 2, 4)), (0, 1, 3, 2)))


@triton.jit
def quarters(x):
    """[L, Q, 4] in four parts of every fourth quad."""
    even, odd = _halves(x)
    x0, x2 = _halves(even)
    x1, x3 = _halves(odd)
    return x0, x1, x2, x3


@triton.jit
def _joined(even, odd):
    """The inverse of `_halves`."""
    both = tl.permute(tl.join(even, odd), (0, 1, 3, 2))
    return tl.reshape(both, (even.shape[0], 2 * even.shape[1], 4))


@triton.jit
def from_quarters(x0, x1, x2, x3):
    """The inverse of `quarters`."""
    return _joined(_joined(x0, x2), _joined(x1, x3))


@triton.jit
def _places(QUARTER: tl.constexpr):
    return (8 * QUARTER + 2 * tl.arange(0, 4))[None, None, :]


@triton.jit
def _codes_of(word, QUARTER: tl.constexpr):
    return (word[:, :, None] >> _places(QUARTER)) & 3


@triton.jit
def quarter_sums(gradient, word, QUARTER: tl.constexpr):
    """int64 [L, Q / 4]: sum |G| and sum G * trit of the quads of a quarter."""
    pairs = tl.reshape(tl.abs(gradient).to(tl.uint32), (word.shape[0], word.shape[1], 2, 2))
    # two of at most 131071 * 127 * 127 fit
    size = tl.sum(tl.sum(pairs, axis=3).to(tl.int64), axis=2)
    along = tl.sum(gradient.to(tl.int64) * (_codes_of(word, QUARTER) - 1).to(tl.int64), axis=2)
    return size, along


@triton.jit
def _r16_of_quads(row, byte, columns, step, stream, key_low, key_high):
    """r16(row * columns + column), non-negative integers [L, Q, 4], where `columns` is a multiple of 4 and
    the matrix has at most 2^34 elements: counter word 1 is 0."""
    quad = row.to(tl.uint32)[:, None] * (columns // 4) + byte.to(tl.uint32)
    w0, w1, w2, w3 = philox4(quad, quad ^ quad, step, stream, key_low, key_high)
    words = tl.join(tl.join(w0, w2), tl.join(w1, w3))
    return tl.reshape(words, (byte.shape[0], byte.shape[1], 4)) >> 16


@triton.jit
def quarter_squares(gradient, shift, half):
    """int32 [L, Q / 4]: the sum of the squares of the |G| of a quarter, shifted and rounded up from `half`,
    both int32 [L] (ARB-MOM-002)."""
    # |G| is at most 131071 * 127 * 127, half at most 2^22
    f = (tl.abs(gradient) + half[:, None, None]) >> shift[:, None, None]
    return tl.sum(f * f, axis=2)


@triton.jit
def settle_quarter(
    gradient, word, accum, row, byte, columns, factor, shift, gain, vote_max, threshold, step, stream,
    key_low, key_high, QUARTER: tl.constexpr, RULE: tl.constexpr,
):  # fmt: skip
    """VOTE and FIRE of a quarter. factor int32 [L], shift int64 [L]; gain, vote_max and threshold in quarters
    of a vote; `byte` [L, Q / 4] counts the bytes of a row of codes.

    Gives what is to be added to the words, accumulators int8, and int32 [L, Q / 4] numbers of votes that are
    not 0 and, negative, of elements that did not fire.

    Masks are sign bits, because predicates of so many elements would be spilled; and they are shifted by a
    31 that the compiler does not see, because it would make predicates of them again.
    """
    top = 31 + (gain >> 25)
    against = (~(gradient >> top)) | 1  # -sign(G), and -1 for 0
    if RULE == "sign":
        k = 4 * tl.minimum(gradient * -against, 1)
    else:
        # the layout of the draws follows that of the codes
        byte = byte + QUARTER + ((word & 0xFF) >> 8)
        drawn = _r16_of_quads(row, byte, columns, step, stream, key_low, key_high)
        share = ((gradient * against).to(tl.int64) * -factor[:, None, None]) >> shift[:, None, None]
        # the shares fit (section 12), and a G of 0 never votes
        k = tl.minimum(((share.to(tl.uint32) + drawn) >> 16).to(tl.int32), vote_max)
    a = accum.to(tl.int32) + k * against
    down = a >> top
    stays = ((a ^ down) - down - threshold) >> top  # |a| < threshold
    code = _codes_of(word, QUARTER)
    over = (code + down) >> 1  # the sign of a where the trit is at that rail, else 0
    part = tl.sum((((down | 1) - over) & ~stays) << _places(QUARTER), axis=2)
    kept = over * (threshold - 1)
    voted = tl.sum(tl.minimum(k, 1), axis=2)
    return part, (kept ^ ((kept ^ a) & stays)).to(tl.int8), voted, tl.sum(stays, axis=2)


@triton.jit
def changed(old, new):
    """Number of trits that differ in words of 16 codes."""
    # of the codes 0, 1, 2 neighbours differ in bit 0; and no trit moves by 2
    bits = (old ^ new) & 0x55555555
    bits = (bits & 0x11111111) + ((bits >> 2) & 0x11111111)
    bits = (bits & 0x0F0F0F0F) + ((bits >> 4) & 0x0F0F0F0F)
    return ((bits * 0x01010101) >> 24) & 0xFF
