"""Section 6 for a part of a tile of the fused update: rows of the product, in registers, and their state.

A part is seen as [L, Q, 4]: a line a group, quads of columns (tiles.py).
"""

from __future__ import annotations

import triton
import triton.language as tl

from .moment import advance, mean_square, root_factor, square_shift
from .rules import SCALE_VOTE, VOTE, mean_bit_length
from .ternary_update import settle_exponents
from .tiles import changed, from_quarters, quarter_squares, quarter_sums, quarters, settle_quarter


@triton.jit
def _group_sums(gradient, word):
    """int64 [L]: S and h of the groups [L, Q, 4] with words [L, Q / 4] of codes."""
    g0, g1, g2, g3 = quarters(gradient)
    size0, along0 = quarter_sums(g0, word, 0)
    size1, along1 = quarter_sums(g1, word, 1)
    size2, along2 = quarter_sums(g2, word, 2)
    size3, along3 = quarter_sums(g3, word, 3)
    return tl.sum(size0 + size1 + size2 + size3, axis=1), -tl.sum(along0 + along1 + along2 + along3, axis=1)


@triton.jit
def _update_tile(
    gradient, word, accum, row, byte, columns, factor, shift, gain, vote_max, threshold, step, stream,
    key_low, key_high, RULE: tl.constexpr,
):  # fmt: skip
    """VOTE and FIRE of a tile, as `settle_quarter` does them.

    All four conditions are true. The compiler does not know: branches are what keeps it from working on four
    quarters at a time, for which there are no registers.
    """
    g0, g1, g2, g3 = quarters(gradient)
    a0, a1, a2, a3 = quarters(accum)
    new0 = tl.zeros(word.shape, tl.int32)
    votes0 = new0
    stays0 = new0
    if vote_max > 0:
        new0, a0, votes0, stays0 = settle_quarter(
            g0, word, a0, row, byte, columns, factor, shift, gain, vote_max, threshold, step, stream,
            key_low, key_high, 0, RULE,
        )  # fmt: skip
    new1 = tl.zeros(word.shape, tl.int32)
    votes1 = new1
    stays1 = new1
    if threshold > 0:
        new1, a1, votes1, stays1 = settle_quarter(
            g1, word, a1, row, byte, columns, factor, shift, gain, vote_max, threshold, step, stream,
            key_low, key_high, 1, RULE,
        )  # fmt: skip
    new2 = tl.zeros(word.shape, tl.int32)
    votes2 = new2
    stays2 = new2
    if gain >= 0:
        new2, a2, votes2, stays2 = settle_quarter(
            g2, word, a2, row, byte, columns, factor, shift, gain, vote_max, threshold, step, stream,
            key_low, key_high, 2, RULE,
        )  # fmt: skip
    new3 = tl.zeros(word.shape, tl.int32)
    votes3 = new3
    stays3 = new3
    if columns > 0:
        new3, a3, votes3, stays3 = settle_quarter(
            g3, word, a3, row, byte, columns, factor, shift, gain, vote_max, threshold, step, stream,
            key_low, key_high, 3, RULE,
        )  # fmt: skip
    votes, stays = votes0 + votes1 + votes2 + votes3, stays0 + stays1 + stays2 + stays3
    return word + (new0 + new1 + new2 + new3), from_quarters(a0, a1, a2, a3), votes, stays


@triton.jit
def _group_squares(gradient, size):
    """int32 [L]: Q of the groups [L, Q, 4] of sums S int64 [L], and by how many bits their |G| were shifted
    (ARB-MOM-002)."""
    shift = square_shift(size)
    half = (1 << shift) >> 1
    g0, g1, g2, g3 = quarters(gradient)
    even = quarter_squares(g0, shift, half) + quarter_squares(g1, shift, half)
    odd = quarter_squares(g2, shift, half) + quarter_squares(g3, shift, half)
    return tl.sum(even + odd, axis=1), shift


@triton.jit
def settle_part(
    total, m0, n0, e_g, codes, t_accum, e, e_accum, moment, counts, rows, columns, groups,
    e_base, e_span, gain, vote_max, threshold, scale_gain, e_threshold, step, stream, key_low, key_high,
    RULE: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    """Section 6 for the gradient [M, N] of the part of W that begins at m0, n0, seen as a line a group."""
    GROUPS: tl.constexpr = total.shape[1] // SIZE
    LINES: tl.constexpr = total.shape[0] * GROUPS
    QUADS_OF_GROUP: tl.constexpr = SIZE // 4
    gradient = tl.reshape(total, (LINES, QUADS_OF_GROUP, 4))
    word = tl.reshape(codes.load([m0, n0 // 16]), (LINES, QUADS_OF_GROUP // 4))
    size, h = _group_sums(gradient, word)

    # 0, which the compiler does not know: places are not in registers before they are used
    nothing = (size >> 62).to(tl.int32)
    if RULE == "adaptive":
        squares, squares_shift = _group_squares(gradient, size)
        nothing = squares >> 31
    line = tl.arange(0, LINES) + nothing
    group = n0 // SIZE + line % GROUPS
    row = m0 + line // GROUPS
    valid = (row < rows) & (group < groups)
    place = row.to(tl.int64) * groups + group
    count = tl.maximum(tl.minimum(columns - group * SIZE, SIZE), 1)
    if RULE == "adaptive":
        exponent = tl.load(e_g + row, mask=row < rows, other=0).to(tl.int32)
        a, x_a = mean_square(squares, squares_shift, exponent, count)
        new_moment = advance(tl.load(moment + place, mask=valid, other=0), a, x_a, step)
        factor, shift = root_factor(new_moment, exponent, gain)
        shift = shift.to(tl.int64)
    else:
        factor, shift, new_moment = gain + nothing, mean_bit_length(size, count), line
    scale_voted, e_moved = settle_exponents(
        row.to(tl.int64), group, valid, size, h, e, e_accum, groups, scale_gain, e_threshold, e_base, e_span,
        step, stream + SCALE_VOTE, key_low, key_high, 127,
    )  # fmt: skip
    if RULE == "adaptive":
        # behind the barrier between reading and writing exponents
        tl.store(moment + place, new_moment, mask=valid)

    byte = group[:, None] * QUADS_OF_GROUP + 4 * tl.arange(0, QUADS_OF_GROUP // 4)[None, :]
    # read again, so that the first decoding is not kept
    word = tl.reshape(codes.load([m0, n0 // 16]), (LINES, QUADS_OF_GROUP // 4))
    accum = tl.reshape(t_accum.load([m0, n0]), (LINES, QUADS_OF_GROUP, 4))
    new, accum, votes, stays = _update_tile(
        gradient, word, accum, row, byte, columns, factor, shift, gain, vote_max, threshold, step,
        stream + VOTE, key_low, key_high, RULE,
    )  # fmt: skip
    # outside the matrix nothing votes, and a threshold that empty accumulators meet does not exist
    codes.store([m0, n0 // 16], tl.reshape(new, (total.shape[0], total.shape[1] // 16)))
    t_accum.store([m0, n0], tl.reshape(accum, total.shape))

    # two numbers in one sum: a part has less than 2^16 elements
    first = tl.sum(tl.sum(votes + ((16 + stays) << 16), axis=1), axis=0)
    moved = tl.sum(changed(word, new), axis=1) + (scale_voted.to(tl.int32) << 16)
    second = tl.sum(moved, axis=0)
    tl.atomic_add(counts, (first & 0xFFFF).to(tl.int64), sem="relaxed")
    tl.atomic_add(counts + 1, ((first >> 16) & 0xFFFF).to(tl.int64), sem="relaxed")
    tl.atomic_add(counts + 2, (second & 0xFFFF).to(tl.int64), sem="relaxed")
    tl.atomic_add(counts + 3, ((second >> 16) & 0xFFFF).to(tl.int64), sem="relaxed")
    tl.atomic_add(counts + 4, tl.sum(e_moved.to(tl.int32), axis=0).to(tl.int64), sem="relaxed")
