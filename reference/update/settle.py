"""Section 6 for chosen rows of a matrix: votes, fires, scale votes, exponents and the five counts.

Not an operation; `ternary_update` settles all rows, `embedding_update` those that occur in its tokens.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..limits import SCALE_VOTES, VOTES, Array, How, Ints, narrow, wide
from ..packing.pack import pack
from ..random_bits.philox import r16, stream_of
from .rules import UPDATE_RULES, accumulate_and_fire, move_exponents, scale_votes


class Settled(NamedTuple):
    """The new state of the rows, the accumulator of exponents still int64, and counts int64 [5]."""

    codes: NDArray[np.uint8]
    t_accum: NDArray[np.int8]
    e: NDArray[np.int8]
    e_accum: Ints
    counts: Ints


def logical_bits(rows: Ints, columns: int, how: How, purpose: int) -> Ints:
    """r16(n), n = row * columns + column, of this update: int64 [len(rows), columns]."""
    n = rows[:, np.newaxis] * columns + np.arange(columns, dtype=np.int64)
    return r16(n, how.seed, how.step, stream_of(how.tensor_id, purpose))


def settle(
    gradient: Array, trits: Array, t_accum: Array, e: Array, e_accum: Array, rows: Ints, how: How, limit: int
) -> Settled:
    """The rows numbered `rows` after one update (ARB-VOTE, ARB-FIRE, ARB-SCALE, ARB-UPD-001).

    gradient, trits and t_accum are [len(rows), I], e and e_accum [len(rows), G]; none of them is changed.
    `limit` is the clamp of e_accum.
    """
    gradient, trits, e = wide(gradient), wide(trits), wide(e)
    vote = UPDATE_RULES[how.rule]
    bits = logical_bits(rows, gradient.shape[1], how, VOTES)
    votes = vote(gradient, bits, how.group_size, how.gain, how.vote_max)
    fired = accumulate_and_fire(trits, wide(t_accum), votes, how.accum_threshold)

    bits = logical_bits(rows, e.shape[1], how, SCALE_VOTES)
    e_votes = scale_votes(gradient, trits, bits, how.group_size, how.scale_gain)
    moved = move_exponents(e, wide(e_accum), e_votes, how.e_base, how.e_span, how.e_accum_threshold, limit)

    counted = (votes != 0, fired.fires, fired.trits != trits, e_votes != 0, moved.e != e)
    return Settled(
        codes=pack(narrow(fired.trits, np.int8)),
        t_accum=narrow(fired.t_accum, np.int8),
        e=narrow(moved.e, np.int8),
        e_accum=moved.e_accum,
        counts=np.array([np.count_nonzero(mask) for mask in counted], np.int64),
    )
