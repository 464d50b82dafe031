"""Section 6 for chosen rows of a matrix: votes, fires, scale votes, exponents and the five counts.

Not an operation; `ternary_update` settles all rows, `embedding_update` those that occur in its tokens.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..limits import SCALE_VOTES, VOTES, Array, How, Ints, narrow, wide
from ..packing.pack import pack
from ..random_bits.philox import r16, stream_of
from .moment import advance, mean_square, root_factor
from .rules import accumulate_and_fire, mean_factor, move_exponents, rounded_votes, scale_votes, sign_votes


class Settled(NamedTuple):
    """The new state of the rows, the accumulator of exponents still int64,
    and counts int64 [5]."""

    codes: NDArray[np.uint8]
    t_accum: NDArray[np.int8]
    e: NDArray[np.int8]
    e_accum: Ints
    moment: NDArray[np.int32]
    counts: Ints


def logical_bits(rows: Ints, columns: int, how: How, purpose: int) -> Ints:
    """r16(n), n = row * columns + column, of this update: int64 [len(rows), columns]."""
    n = rows[:, np.newaxis] * columns + np.arange(columns, dtype=np.int64)
    return r16(n, how.seed, how.step, stream_of(how.tensor_id, purpose))


def settle(
    gradient: Array,
    e_g: Array,
    trits: Array,
    t_accum: Array,
    e: Array,
    e_accum: Array,
    moment: Array,
    updates: Array,
    rows: Ints,
    how: How,
    limit: int,
) -> Settled:
    """The rows numbered `rows` after one update (ARB-MOM, ARB-VOTE, ARB-FIRE, ARB-SCALE, ARB-UPD-001).

    gradient, trits and t_accum are [len(rows), I], e, e_accum and moment [len(rows), G], e_g the exponents of
    the gradient and `updates` how many each row had, both [len(rows)]; none of them is changed. `limit` is
    the clamp of e_accum.
    """
    gradient, trits, e = wide(gradient), wide(trits), wide(e)
    votes, moment = vote(gradient, wide(e_g), wide(moment), wide(updates), rows, how)
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
        moment=narrow(moment, np.int32),
        counts=np.array([np.count_nonzero(mask) for mask in counted], np.int64),
    )


def vote(gradient: Ints, e_g: Ints, moment: Ints, updates: Ints, rows: Ints, how: How) -> tuple[Ints, Ints]:
    """Votes [len(rows), I] in quarters by the rule of `how`, and the moments [len(rows), G] behind them."""
    if how.rule == "sign":
        return sign_votes(gradient), moment
    if how.rule == "adaptive":
        square = mean_square(gradient, e_g, how.group_size)
        moment = advance(moment, square, updates[:, np.newaxis])
        factor, shift = root_factor(moment, e_g, how.gain)
    else:
        factor, shift = mean_factor(gradient, how.group_size, how.gain)
    bits = logical_bits(rows, gradient.shape[1], how, VOTES)
    return rounded_votes(gradient, bits, how.group_size, how.vote_max, factor, shift), moment
