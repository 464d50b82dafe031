"""A whole training step of one linear layer, composed of the operations of section 11.

The step has one or more microbatches. Each goes forward and backward on its own; the update sums over all of
their tokens as if they were one call (ARB-RUN-003), and a token keeps its number in the step (ARB-RNG-006).
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .limits import BOUNDS, INPUT_GRADIENT, POISONED, WEIGHT_GRADIENT, How, Ints, check_tokens, narrow, wide
from .linear.input_gradient import input_gradient
from .linear.linear_forward import linear_forward
from .quantise.quantise_columns import quantise_columns
from .quantise.quantise_nearest import quantise_nearest
from .quantise.quantise_stochastic import quantise_stochastic
from .random_bits.philox import stream_of
from .update.clipping import clipped, rows_looked_at, squared_votes
from .update.ternary_update import ternary_update

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class State:
    """The arrays that section 11 calls `state`: codes, t_accum, e, e_accum, moment; written in place."""

    codes: NDArray[np.uint8]
    t_accum: NDArray[np.int8]
    e: NDArray[np.int8]
    e_accum: NDArray[np.int8]
    moment: NDArray[np.int32]


def step_gradient(q_g: NDArray[np.int8], q_x: NDArray[np.int8]) -> NDArray[np.int32]:
    """q_g int8 [T, O] and q_x int8 [T, I] of all tokens of an update to G int32 [O, I] (ARB-LIN-007).

    `ValueError` for more than 2^20 tokens. Of as many as `weight_gradient` takes it is the same.
    """
    check_tokens("q_g", len(q_g))
    total = wide(q_g).T @ wide(q_x)
    if len(q_g) > BOUNDS["summed_tokens"][1]:
        total = (total + 4) >> 3
    return narrow(total, np.int32)


def step_exponents(e_g: NDArray[np.int8], tokens: int) -> NDArray[np.int8]:
    """Exponents [O] of G, from those of q_g of so many tokens: 3 more where G was shifted (ARB-LIN-007)."""
    return narrow(wide(e_g) + 3 * (tokens > BOUNDS["summed_tokens"][1]), np.int8)


def linear_step(
    x: Sequence[Floats], dy: Sequence[Floats], state: State, how: How
) -> tuple[list[Floats], list[Floats], Ints | None]:
    """y and dx of every microbatch and the counts int64 [5] of the update.

    x[m] is float32 [T_m, I] and dy[m], its output's gradient, float32 [T_m, O]. `how.step` is the tensor's
    `updates` before this one. Where the gradient is poisoned the state is left as it is and the counts are
    None (ARB-RUN-005).
    """
    if not x or len(x) != len(dy):
        raise ValueError(f"x and dy have {len(x)} and {len(dy)} microbatches, expected 1 or more of each")
    for m, (x_part, dy_part) in enumerate(zip(x, dy, strict=True)):
        if len(x_part) != len(dy_part):
            raise ValueError(f"dy[{m}] has {len(dy_part)} rows, expected {len(x_part)}, those of x[{m}]")
    weights = (state.codes, state.e, how.e_base, how.e_span, how.group_size)
    quantised = [quantise_nearest(part) for part in x]
    y = [linear_forward(q, e, *weights) for q, e in quantised]

    dx: list[Floats] = []
    first_row = 0
    for x_part, dy_part in zip(x, dy, strict=True):
        stream = stream_of(how.tensor_id, INPUT_GRADIENT)
        q_d, e_d = quantise_stochastic(dy_part, how.seed, how.step, stream, first_row)
        dx.append(input_gradient(q_d, e_d, *weights, x_part.shape[1]))
        first_row += dy_part.shape[0]

    q_x = np.concatenate([q for q, _ in quantised])
    e_x = np.concatenate([e for _, e in quantised])
    stream = stream_of(how.tensor_id, WEIGHT_GRADIENT)
    q_g, e_g = quantise_columns(np.concatenate(list(dy)), e_x, how.seed, how.step, stream, 0)
    if (e_g == POISONED).any():
        return y, dx, None
    arrays = (state.codes, state.t_accum, state.e, state.e_accum, state.moment)
    gradient, e_g = step_gradient(q_g, q_x), step_exponents(e_g, len(q_g))
    if how.rule == "adaptive":
        rows = rows_looked_at(len(gradient))
        sums = squared_votes(gradient[rows], e_g[rows], state.moment[rows], how.group_size, how.step)
        how = replace(how, gain=clipped(how.gain, *sums))
    return y, dx, ternary_update(gradient, e_g, *arrays, *astuple(how))
