"""Section 7: a ternary table that is read by row, and updated in the rows that were read.

The update is section 6 with `corr_accum` in the place of `e_accum`; rows that no token named keep every byte.
"""

from .checks import (
    INT32_MAX,
    Matrix,
    Vector,
    columns_of,
    gradient_exponents,
    group_count,
    integer,
    matrix,
    quantised,
    tokens_in_call,
    vector,
)
from .float32 import round_and_scale
from .packing import unpack
from .update import How, State, settle

_CORR_CLAMP = 32767


def embedding_forward(tokens: Vector, codes: Matrix, e: Matrix, group_size: int, columns: int) -> Matrix:
    """ARB-EMB-001: y patterns [T, D], row tokens[t] of the table; a zero trit gives +0.0."""
    _check_tokens(tokens, len(codes))
    integer("columns", columns, 1, INT32_MAX // 127)
    # Without e_base and e_span all that ARB-STATE-003 leaves to check is -26 .. 26 + 6.
    matrix("e", e, len(codes), group_count(group_size, columns), -26, 32)
    trits = unpack(codes, columns)
    return [[round_and_scale(trits[v][d], e[v][d // group_size]) for d in range(columns)] for v in tokens]


def embedding_gradient(tokens: Vector, q: Matrix, rows: int) -> Matrix:
    """ARB-EMB-003: G[v] = the sum of q[t] over the tokens t with tokens[t] = v, int32 [V, D]."""
    integer("rows", rows, 1, INT32_MAX // 127)
    _check_tokens(tokens, rows)
    columns = columns_of("q", q)
    quantised("q", q, len(tokens), columns)
    gradient = [[0] * columns for _ in range(rows)]
    for t, v in enumerate(tokens):
        for d in range(columns):
            gradient[v][d] += q[t][d]
    return gradient


def embedding_update(
    tokens: Vector,
    q: Matrix,
    e_g: Vector,
    codes: Matrix,
    t_accum: Matrix,
    e: Matrix,
    corr_accum: Matrix,
    moment: Matrix,
    step_counter: Vector,
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
) -> list[int]:
    """ARB-EMB-004, -005: update the rows that occur in tokens, in all six arrays; gives the counts."""
    how = How(e_base, e_span, group_size, rule, gain, vote_max, accum_threshold, scale_gain,
              e_accum_threshold, seed, tensor_id, step)  # fmt: skip
    rows = len(codes)
    gradient = embedding_gradient(tokens, q, rows)
    vector("step_counter", step_counter, rows, 0, INT32_MAX)
    gradient_exponents("e_g", e_g, 1)
    occurring = sorted(set(tokens))
    state = State(codes, t_accum, e, corr_accum, moment, _CORR_CLAMP)
    # ARB-MOM-003 counts the updates of a row, not those of the table (section 6).
    counts = settle(gradient, e_g * rows, occurring, state, step_counter, how, how.bits)
    for v in occurring:
        step_counter[v] = min(step_counter[v] + 1, INT32_MAX)
    return counts


def _check_tokens(tokens: Vector, rows: int) -> None:
    """ARB-EMB-001, ARB-STATE-005: T tokens, each a row of the table."""
    tokens_in_call(len(tokens))
    vector("tokens", tokens, len(tokens), 0, rows - 1)
