"""One update of a linear layer from its quantised operands (section 6)."""

import numpy as np
from numpy.typing import NDArray

from ..limits import Ints
from ..linear.weight_gradient import weight_gradient
from .ternary_update import ternary_update


def linear_update(
    q_g: NDArray[np.int8],
    e_g: NDArray[np.int8],
    q_x: NDArray[np.int8],
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
    """`ternary_update` with the G of q_g int8 [T, O], whose columns have the exponents e_g int8 [O], and q_x
    int8 [T, I] (ARB-UPD-002)."""
    return ternary_update(
        weight_gradient(q_g, q_x), e_g, codes, t_accum, e, e_accum, moment, e_base, e_span, group_size, rule,
        gain, vote_max, accum_threshold, scale_gain, e_accum_threshold, seed, tensor_id, step,
    )  # fmt: skip
