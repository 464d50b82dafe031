"""One update of the rows of an embedding table that occurred in a step (section 7)."""

import numpy as np
from numpy.typing import NDArray

from ..limits import (
    CORR_ACCUM_MAX,
    INT32_MAX,
    T_ACCUM_MAX,
    How,
    Ints,
    ceil_div,
    check_array,
    check_gradient_exponents,
    check_moment,
    check_range,
    check_writeable,
    narrow,
    wide,
)
from ..packing.unpack import unpack
from ..update.settle import settle
from .embedding_gradient import embedding_gradient


def embedding_update(
    tokens: NDArray[np.int64],
    q: NDArray[np.int8],
    e_g: NDArray[np.int8],
    codes: NDArray[np.uint8],
    t_accum: NDArray[np.int8],
    e: NDArray[np.int8],
    corr_accum: NDArray[np.int16],
    moment: NDArray[np.int32],
    step_counter: NDArray[np.int32],
    e_base: int,
    e_span: int,
    group_size: int,
    rule: str,
    gain: int,
    vote_max: int,
    accum_threshold: int,
    scale_gain: int,
    e_accum_threshold: int,
    seed: int,
    tensor_id: int,
    step: int,
) -> Ints:
    """Updates the rows in `tokens` of codes uint8 [V, ceil(D/4)], t_accum int8 [V, D], e int8 [V, G],
    corr_accum int16 [V, G], moment int32 [V, G] and step_counter int32 [V] in place.

    tokens is int64 [T], q int8 [T, D], e_g int8 [1] its exponent. Gives counts int64 [5] as `ternary_update`
    (ARB-EMB-003..005). `ValueError` or `TypeError` (ARB-STATE-006) before anything is written.
    """
    how = How(
        e_base, e_span, group_size, rule, gain, vote_max, accum_threshold, scale_gain, e_accum_threshold,
        seed, tensor_id, step,
    )  # fmt: skip
    check_array("t_accum", t_accum, np.int8, None, None)
    rows, columns = t_accum.shape
    groups = ceil_div(columns, how.group_size)
    check_range("t_accum", t_accum, -T_ACCUM_MAX, T_ACCUM_MAX)
    check_array("q", q, np.int8, None, columns)
    check_gradient_exponents("e_g", e_g, 1)
    check_array("codes", codes, np.uint8, rows, ceil_div(columns, 4))
    check_array("e", e, np.int8, rows, groups)
    check_range("e", e, how.e_base, how.e_base + how.e_span)
    check_array("corr_accum", corr_accum, np.int16, rows, groups)
    check_range("corr_accum", corr_accum, -CORR_ACCUM_MAX, CORR_ACCUM_MAX)
    check_moment(moment, rows, groups)
    check_array("step_counter", step_counter, np.int32, rows)
    check_range("step_counter", step_counter, 0, INT32_MAX)
    check_writeable(
        codes=codes, t_accum=t_accum, e=e, corr_accum=corr_accum, moment=moment, step_counter=step_counter
    )

    gradient = embedding_gradient(tokens, q, rows)
    trits = unpack(codes, columns)
    seen = np.unique(tokens)
    new = settle(
        gradient[seen], np.repeat(e_g, len(seen)), trits[seen], t_accum[seen], e[seen], corr_accum[seen],
        moment[seen], step_counter[seen], seen, how, limit=CORR_ACCUM_MAX,
    )  # fmt: skip
    new_corr_accum = narrow(new.e_accum, np.int16)
    new_counter = narrow(np.minimum(wide(step_counter[seen]) + 1, INT32_MAX), np.int32)

    codes[seen] = new.codes
    t_accum[seen] = new.t_accum
    e[seen] = new.e
    corr_accum[seen] = new_corr_accum
    moment[seen] = new.moment
    step_counter[seen] = new_counter
    return new.counts
