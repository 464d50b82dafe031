"""Votes, firing and exponents as TIR expressions and macros (section 6): used alike on gradients in memory
(ternary_update.py) and on sums that never leave the chip (linear_update.py)."""

from typing import Any, NamedTuple

import tilelang.language as T

from ..launch import split
from ..packing.codes import replaced
from ..random_bits.generator import philox_block, philox_quad, r16

VOTE, SCALE_VOTE = 3, 4  # purposes
COUNTS = 5  # votes, fires, trits changed, scale votes, exponents changed
FIRED = 3  # of them from firing; the others from settling


class How(NamedTuple):
    """The integers of an update as the kernels take them, each an int64; stream is that of purpose 0."""

    e_base: Any
    e_span: Any
    group_size: Any
    gain: Any
    vote_max: Any
    accum_threshold: Any
    scale_gain: Any
    e_accum_threshold: Any
    key0: Any
    key1: Any
    stream: Any
    step: Any


def how_arguments() -> How:
    """The integers as a kernel's last arguments: for the first line of its body.

    T.arg is what TileLang itself calls for each parameter of a signature.
    """
    return How._make(T.arg(name, T.int64()) for name in How._fields)


def read_how(*how: Any) -> tuple[str, How]:
    """The rule and the kernels' integers from `how` as in the specification."""
    e_base, e_span, group_size, rule, *gains, seed, tensor_id, step = how
    return rule, How._make((e_base, e_span, group_size, *gains, *split(seed), 16 * tensor_id, step))


def sign(x: Any) -> Any:
    """-1, 0 or 1 as int32."""
    return T.if_then_else(x > 0, 1, T.if_then_else(x < 0, -1, 0))


def clamp(x: Any, limit: Any) -> Any:
    """min(max(x, -limit), limit)."""
    return T.min(T.max(x, -limit), limit)


def size(g: Any) -> Any:
    """|g| of an int32 as uint32."""
    bits = T.Cast("uint32", g)
    return T.if_then_else(g < 0, T.uint32(0) - bits, bits)


def _unsigned(x: Any) -> Any:
    """32 bits, without a sign, as int64: a product of two such takes one instruction."""
    return T.Cast("int64", T.Cast("uint32", x))


def bit_length(x: Any) -> Any:
    """Bits of a non-negative int64 below 2^53, int32, off the exponent of the exact float64."""
    bits = T.reinterpret(T.Cast("float64", x), "int64")
    return T.if_then_else(x > T.int64(0), T.Cast("int32", bits >> T.int64(52)) - 1022, 0)


@T.macro
def mean_factor(voting: Any, total: Any, count: Any, gain: Any) -> None:
    """voting int32 [0], [1] = factor and shift of votes over the mean; all int64 (ARB-VOTE-001).

    The shift is bit_length(total // count) without the division: the quotient has d or d + 1 bits.
    """
    d = T.alloc_var("int32", init=0)
    d = bit_length(total) - bit_length(count)
    d = T.if_then_else(d < 0, 0, d)
    voting[0] = T.Cast("int32", gain * T.int64(4))
    voting[1] = T.if_then_else(total >= (count << T.Cast("int64", d)), d + 1, d)


def scale_vote_of(h: Any, total: Any, r16: Any, scale_gain: Any) -> Any:
    """The vote of a group's exponent, int32 (ARB-SCALE-001); all int64 but r16."""
    votes = T.abs(h) * scale_gain > T.Cast("int64", r16) * total
    return T.if_then_else(votes, sign(h), 0)


@T.macro
def settle_group(
    settled: Any, total: Any, h: Any, n: Any, e: Any, e_accum: Any, limit: Any, how: Any
) -> None:
    """settled int32 [4] = e, e_accum, whether it voted, whether the exponent moved (ARB-SCALE-001, -002).
    e, e_accum and limit are int32.

    What is used more than once goes through a variable: as one expression it grows beyond TileLang's
    simplifier.
    """
    words = T.alloc_local((4,), "uint32")
    word = T.alloc_var("uint32", init=0)
    vote = T.alloc_var("int32", init=0)
    a = T.alloc_var("int32", init=0)
    moved = T.alloc_var("int32", init=0)
    philox_block(words, n >> T.int64(2), how.key0, how.key1, how.step, how.stream + T.int64(SCALE_VOTE))
    word = words[0]
    for j in range(1, 4):
        word = T.if_then_else((n & T.int64(3)) == T.int64(j), words[j], word)
    vote = scale_vote_of(h, total, r16(word), how.scale_gain)
    a = clamp(e_accum + vote, limit)
    moved = e + sign(a)
    top = T.Cast("int32", how.e_base + how.e_span)
    moved = T.if_then_else(moved < T.Cast("int32", how.e_base), T.Cast("int32", how.e_base), moved)
    moved = T.if_then_else(moved > top, top, moved)
    settled[0] = T.if_then_else(T.Cast("int64", T.abs(a)) >= how.e_accum_threshold, moved, e)
    settled[1] = T.if_then_else(T.Cast("int64", T.abs(a)) >= how.e_accum_threshold, 0, a)
    settled[2] = T.if_then_else(vote != 0, 1, 0)
    settled[3] = T.if_then_else(settled[0] != e, 1, 0)


@T.macro
def vote_words(words: Any, n: Any, how: Any) -> None:
    """words uint32 [4] that weights n .. n + 3 round their votes with."""
    philox_quad(words, n, how.key0, how.key1, how.step, how.stream + T.int64(VOTE))


@T.macro
def fire_trit(
    fired: Any, by_sign: bool, g: Any, trit: Any, t_accum: Any, factor: Any, shift: Any, draw: Any, how: Any
) -> None:
    """fired int32 [5] = trit, t_accum, and whether it voted, fired, moved (ARB-VOTE-001, -002, ARB-FIRE-001,
    -002). All int32 but how; factor, shift and draw play no part in votes by the sign alone."""
    share = T.alloc_var("int64", init=0)
    most = T.alloc_var("int64", init=0)
    vote = T.alloc_var("int32", init=0)
    a = T.alloc_var("int32", init=0)
    threshold = T.alloc_var("int32", init=0)
    if by_sign:
        vote = -4 * sign(g)
    else:
        share = (_unsigned(size(g)) * _unsigned(factor)) >> _unsigned(shift)
        # capped before it is rounded, which gives the same: at the cap r16 adds nothing
        most = how.vote_max << T.int64(18)
        share = T.if_then_else(share < most, share, most)
        vote = -sign(g) * ((T.Cast("int32", share) + draw) >> 16)
    a = t_accum + vote
    threshold = 4 * T.Cast("int32", how.accum_threshold)
    fired[2] = T.if_then_else(vote != 0, 1, 0)
    fired[3] = T.if_then_else(T.abs(a) >= threshold, 1, 0)
    fired[0] = T.if_then_else(fired[3] != 0, clamp(trit + sign(a), 1), trit)
    fired[4] = T.if_then_else(fired[0] != trit, 1, 0)
    # a fire at the rail stays just below the threshold
    fired[1] = T.if_then_else(fired[4] != 0, 0, T.if_then_else(fired[3] != 0, sign(a) * (threshold - 1), a))


@T.macro
def keep_untouched(changed: Any, size: int, touched: Any, old: Any, old_accum: Any) -> None:
    """Put the old values and zero counts back where a row is not touched. (Selects: a branch on a value in
    memory makes TileLang's simplifier run for ever.)"""
    changed[0] = T.if_then_else(touched != 0, changed[0], old)
    changed[1] = T.if_then_else(touched != 0, changed[1], old_accum)
    for j in T.unroll(size - 2):
        changed[2 + j] = T.if_then_else(touched != 0, changed[2 + j], 0)


@T.macro
def store_settled(e: Any, e_accum: Any, where: Any, settled: Any) -> None:
    """Write what `settle_group` gave; `where` is the row and the group."""
    e[where] = T.Cast(e.dtype, settled[0])
    e_accum[where] = T.Cast(e_accum.dtype, settled[1])


@T.macro
def store_fired(byte: T.Ref, j: Any, t_accum: Any, where: Any, tallies: Any, fired: Any) -> None:
    """Write what `fire_trit` gave for trit j of a byte, and count it; `where` is the row and the column."""
    byte = replaced(byte, j, fired[0])
    t_accum[where] = T.Cast("int8", fired[1])
    for c in T.unroll(FIRED):
        tallies[c] = tallies[c] + fired[2 + c]


@T.macro
def tally(cuda: bool, counts: Any, place: int, value: Any) -> None:
    """Add an int32 to a count; every thread of the block must come here."""
    if cuda:
        together = T.warp_reduce_sum(value)
        if T.get_thread_binding() % 32 == 0:
            T.atomic_add(counts[place], together)
    else:
        counts[place] = counts[place] + value
