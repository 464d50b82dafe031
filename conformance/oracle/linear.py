"""Section 5: the three matrix products of a ternary linear layer, as sums over Python ints.

The weight gradient is a bare integer sum. The forward pass and the input gradient end in the one place where
a float is made, `float32.round_and_scale`.
"""

from .checks import (
    MAX_SUMMED_TOKENS,
    POISONED,
    Matrix,
    Vector,
    columns_of,
    integer,
    quantised,
    row_exponents,
    scales,
    tokens_in_call,
)
from .float32 import NAN, round_and_scale
from .packing import unpack


def linear_forward(
    q_x: Matrix, e_x: Vector, codes: Matrix, e: Matrix, e_base: int, e_span: int, group_size: int
) -> Matrix:
    """ARB-LIN-001, -003, -004, -006: y patterns [T, O] of q_x [T, I], e_x [T] and a weight [O, I]."""
    in_features = columns_of("q_x", q_x)
    _check_rows("q_x", q_x, "e_x", e_x, in_features)
    weight = _weight(codes, e, in_features, e_base, e_span, group_size)
    return _product(q_x, e_x, weight, e_base)


def input_gradient(
    q_d: Matrix,
    e_d: Vector,
    codes: Matrix,
    e: Matrix,
    e_base: int,
    e_span: int,
    group_size: int,
    in_features: int,
) -> Matrix:
    """ARB-LIN-002, -003, -004, -006: dx patterns [T, I] of q_d [T, O], e_d [T] and a weight [O, I]."""
    integer("in_features", in_features, 1, 2**31 - 1)
    _check_rows("q_d", q_d, "e_d", e_d, len(codes))
    weight = _weight(codes, e, in_features, e_base, e_span, group_size)
    transposed = [[row[i] for row in weight] for i in range(in_features)]
    return _product(q_d, e_d, transposed, e_base)


def weight_gradient(q_g: Matrix, q_x: Matrix) -> Matrix:
    """ARB-LIN-005, -006: G[o, i] = sum over t of q_g[t, o] * q_x[t, i], int32 [O, I]."""
    tokens, out_features, in_features = len(q_g), columns_of("q_g", q_g), columns_of("q_x", q_x)
    tokens_in_call(tokens, MAX_SUMMED_TOKENS)
    quantised("q_g", q_g, tokens, out_features)
    quantised("q_x", q_x, tokens, in_features)
    return [
        [sum(q_g[t][o] * q_x[t][i] for t in range(tokens)) for i in range(in_features)]
        for o in range(out_features)
    ]


def step_gradient(q_g: Matrix, q_x: Matrix) -> Matrix:
    """ARB-LIN-007: G of an update of up to 2^20 tokens; the sum, or an eighth of it, a half going up."""
    tokens_in_call(len(q_g))
    if len(q_g) <= MAX_SUMMED_TOKENS:
        return weight_gradient(q_g, q_x)
    quantised("q_g", q_g, len(q_g), columns_of("q_g", q_g))
    quantised("q_x", q_x, len(q_g), columns_of("q_x", q_x))
    columns = list(zip(*q_x, strict=True))
    return [
        [(sum(g * x for g, x in zip(row, column, strict=True)) + 4) // 8 for column in columns]
        for row in zip(*q_g, strict=True)
    ]


def _check_rows(q_name: str, q: Matrix, e_name: str, exponents: Vector, columns: int) -> None:
    tokens_in_call(len(q))
    quantised(q_name, q, len(q), columns)
    row_exponents(e_name, exponents, len(q))


def _weight(codes: Matrix, e: Matrix, in_features: int, e_base: int, e_span: int, group_size: int) -> Matrix:
    """w^ [O, I] of section 5: trit * 2^(e - e_base), within -64..64."""
    scales(e, len(codes), in_features, e_base, e_span, group_size)
    trits = unpack(codes, in_features)
    return [
        [trit * 2 ** (e[o][i // group_size] - e_base) for i, trit in enumerate(row)]
        for o, row in enumerate(trits)
    ]


def _product(q: Matrix, exponents: Vector, weight: Matrix, e_base: int) -> Matrix:
    """Row t of the result is float32(q[t] . w) * 2^k for every weight row w; NaN if t is poisoned."""
    y = []
    for row, exponent in zip(q, exponents, strict=True):
        if exponent == POISONED:
            y.append([NAN] * len(weight))
            continue
        k = min(exponent + e_base, 127)
        sums = [sum(a * b for a, b in zip(row, w, strict=True)) for w in weight]
        y.append([round_and_scale(z, k) for z in sums])
    return y
