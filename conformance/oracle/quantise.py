"""Section 4: float32 patterns to int8 with one power-of-two scale for a row or a column.

The exponent is found by its definition, the smallest e with a <= 127 * 2^e, and not by the bit recipe that
ARB-QUANT-002 gives for it, so the recipe is checked rather than repeated.
"""

from collections.abc import Callable

from .checks import POISONED, Matrix, Vector, columns_of, integer, matrix, row_exponents, tokens_in_call
from .float32 import UNIT, units
from .random_bits import check_bits, r16

_LEAST = -100
# Columns multiply by 2^e_x with e_x >= -100 first: 100 more bits keep that an integer.
_FINE = UNIT + _LEAST


def quantise_nearest(x: Matrix) -> tuple[Matrix, Vector]:
    """ARB-QUANT-001..004, -006..008: patterns [R, C] to (q [R, C], e [R]), nearest, ties up."""
    columns = columns_of("x", x)
    matrix("x", x, len(x), columns, 0, 2**32 - 1)
    results = [_quantise_set([fine(pattern) for pattern in row], lambda _: 32768) for row in x]
    return [q for q, _ in results], [e for _, e in results]


def quantise_nearest_both(x: Matrix) -> tuple[Matrix, Matrix, Vector]:
    """ARB-QUANT-011: the q of `quantise_nearest`, q_t [C, R] with q_t[c][r] = q[r][c], and e."""
    q, e = quantise_nearest(x)
    return q, [[row[c] for row in q] for c in range(len(q[0]))], e


def quantise_stochastic(
    x: Matrix, seed: int, step: int, stream: int, first_row: int
) -> tuple[Matrix, Vector]:
    """ARB-QUANT-001..003, -005..007, -009: patterns [R, C] to (q [R, C], e [R]), stochastic.

    n = (first_row + r)*C + c.
    """
    rows, columns = len(x), columns_of("x", x)
    matrix("x", x, rows, columns, 0, 2**32 - 1)
    integer("first_row", first_row, 0, 2**66 - 1)
    check_bits(seed, step, stream, first_row * columns, rows * columns)
    results = []
    for r, row in enumerate(x):

        def bits(c: int, start: int = (first_row + r) * columns) -> int:
            return r16(start + c, seed, step, stream)

        results.append(_quantise_set([fine(pattern) for pattern in row], bits))
    return [q for q, _ in results], [e for _, e in results]


def quantise_columns(
    dy: Matrix, e_x: Vector, seed: int, step: int, stream: int, first_row: int
) -> tuple[Matrix, Vector]:
    """ARB-QUANT-010: dy patterns [T, O] times 2^e_x[t] to (q [T, O], e [O]), stochastic.

    n = (first_row + t)*O + o.
    """
    tokens, columns = len(dy), columns_of("dy", dy)
    tokens_in_call(tokens)
    matrix("dy", dy, tokens, columns, 0, 2**32 - 1)
    row_exponents("e_x", e_x, tokens)
    integer("first_row", first_row, 0, 2**66 - 1)
    check_bits(seed, step, stream, first_row * columns, tokens * columns)
    q: Matrix = [[] for _ in range(tokens)]
    exponents = []
    for o in range(columns):

        def bits(t: int, o: int = o) -> int:
            return r16((first_row + t) * columns + o, seed, step, stream)

        column = [None if e_x[t] == POISONED else fine(dy[t][o], e_x[t]) for t in range(tokens)]
        q_column, e = _quantise_set(column, bits)
        exponents.append(e)
        for t in range(tokens):
            q[t].append(q_column[t])
    return q, exponents


def fine(pattern: int, scale: int = 0) -> int | None:
    """The float32 product pattern * 2^scale in units of 2^-249; None if it is not finite.

    Where the float32 product would underflow this keeps the exact value instead. ARB-QUANT-010 says why that
    cannot show.
    """
    value = units(pattern)
    if value is None:
        return None
    product = value << (scale - _LEAST)
    # 24 significant bits times a power of two: it overflows from 2^128 on, and below is exact.
    return None if abs(product) >= 1 << (128 - _FINE) else product


def _quantise_set(values: list[int | None], bits: Callable[[int], int]) -> tuple[Vector, int]:
    """ARB-QUANT-001..007 for one set of values in units of 2^-249; bits(i) is added before the shift."""
    found, e = fractions(values)
    if found is None:
        return [0] * len(values), POISONED
    return [(f + bits(i)) >> 16 for i, f in enumerate(found)], e


def fractions(values: list[int | None]) -> tuple[Vector | None, int]:
    """ARB-QUANT-001..003 and -007 for one set of values in units of 2^-249: every f, or None for a poisoned
    set, and e."""
    finite = [value for value in values if value is not None]
    if len(finite) < len(values):
        return None, POISONED
    largest = max((abs(value) for value in finite), default=0)
    e = _LEAST
    while largest > 127 << (e - _FINE):
        e += 1
    # x * 2^(16-e) with x = value * 2^_FINE: a shift to the right, of the magnitude, which is trunc.
    shift = e - 16 - _FINE
    return [-(-value >> shift) if value < 0 else value >> shift for value in finite], e
