"""One update of a ternary matrix from its integer gradient (section 6)."""

import numpy as np
from numpy.typing import NDArray

from ..limits import (
    E_ACCUM_MAX,
    T_ACCUM_MAX,
    How,
    Ints,
    ceil_div,
    check_array,
    check_extent,
    check_gradient_exponents,
    check_moment,
    check_range,
    check_writeable,
    narrow,
)
from ..packing.unpack import unpack
from .settle import settle


def ternary_update(
    gradient: NDArray[np.int32],
    e_g: NDArray[np.int8],
    codes: NDArray[np.uint8],
    t_accum: NDArray[np.int8],
    e: NDArray[np.int8],
    e_accum: NDArray[np.int8],
    moment: NDArray[np.int32],
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
    """Updates codes uint8 [O, ceil(I/4)], t_accum int8 [O, I], e and e_accum int8 [O, G], moment int32 [O, G]
    in place.

    gradient is int32 [O, I], e_g int8 [O] the exponents of its rows. Gives counts int64 [5]: votes, fires,
    trits changed, scale votes, exponents changed (ARB-UPD-001). `ValueError` or `TypeError` (ARB-STATE-006)
    before anything is written.
    """
    how = How(
        e_base, e_span, group_size, rule, gain, vote_max, accum_threshold, scale_gain, e_accum_threshold,
        seed, tensor_id, step,
    )  # fmt: skip
    check_array("gradient", gradient, np.int32, None, None)
    rows, columns = gradient.shape
    check_extent("out-features", rows, how.e_span)
    check_extent("in-features", columns, how.e_span)
    groups = ceil_div(columns, how.group_size)
    check_gradient_exponents("e_g", e_g, rows)
    check_array("codes", codes, np.uint8, rows, ceil_div(columns, 4))
    check_array("t_accum", t_accum, np.int8, rows, columns)
    check_range("t_accum", t_accum, -T_ACCUM_MAX, T_ACCUM_MAX)
    check_array("e", e, np.int8, rows, groups)
    check_range("e", e, how.e_base, how.e_base + how.e_span)
    check_array("e_accum", e_accum, np.int8, rows, groups)
    check_range("e_accum", e_accum, -E_ACCUM_MAX, E_ACCUM_MAX)
    check_moment(moment, rows, groups)
    check_writeable(codes=codes, t_accum=t_accum, e=e, e_accum=e_accum, moment=moment)

    trits = unpack(codes, columns)
    every_row = np.arange(rows, dtype=np.int64)
    updates = np.full(rows, how.step, dtype=np.int64)
    new = settle(
        gradient, e_g, trits, t_accum, e, e_accum, moment, updates, every_row, how, limit=E_ACCUM_MAX
    )
    new_e_accum = narrow(new.e_accum, np.int8)

    codes[...] = new.codes
    t_accum[...] = new.t_accum
    e[...] = new.e
    e_accum[...] = new_e_accum
    moment[...] = new.moment
    return new.counts
