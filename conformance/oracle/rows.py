"""Section 13 over float32 patterns: rows in fixed point, their norm and its gradient."""

from typing import NamedTuple

from . import float32 as f32
from .checks import Matrix, Vector, columns_of, matrix
from .quantise import fine, fractions


class Row(NamedTuple):
    """f of the elements and the exponent e; f is None where the row is poisoned."""

    f: Vector | None
    e: int


def fixed(patterns: Vector) -> Row:
    """ARB-ROW-001."""
    return Row(*fractions([fine(pattern) for pattern in patterns]))


def coarse(f: Vector) -> Vector:
    """ARB-ROW-001: the nearest multiples of 256, ties up."""
    return [(value + 128) // 256 for value in f]


def factor_of(f: Vector, e: int) -> tuple[int, int, bool]:
    """ARB-NORM-001: S, the pattern of the factor, and whether that is at its bound."""
    total = sum(c * c for c in coarse(f))
    bound = f32.power(e - 6)
    if total == 0:
        return total, bound, True
    mean = f32.divide(f32.rounded(total), f32.rounded(len(f)))
    found = f32.shift(f32.divide(f32.power(0), f32.root(mean)), -8)
    return (total, found, False) if found < bound else (total, bound, True)  # both are positive


def norm(x: Matrix) -> Matrix:
    """ARB-NORM-001: patterns [R, C] to patterns [R, C]."""
    columns = columns_of("x", x)
    matrix("x", x, len(x), columns, 0, 2**32 - 1)
    return [_normed(fixed(patterns), columns) for patterns in x]


def _normed(row: Row, columns: int) -> Vector:
    if row.f is None:
        return [f32.NAN] * columns
    _, factor, _ = factor_of(row.f, row.e)
    return [f32.multiply(f32.rounded(value), factor) for value in row.f]


def norm_backward(dy: Matrix, x: Matrix) -> Matrix:
    """ARB-NORM-002: patterns [R, C] of the gradient and of the argument to those of its gradient."""
    columns = columns_of("dy", dy)
    matrix("dy", dy, len(dy), columns, 0, 2**32 - 1)
    matrix("x", x, len(dy), columns, 0, 2**32 - 1)
    return [_turned_back(fixed(change), fixed(row), columns) for change, row in zip(dy, x, strict=True)]


def _turned_back(change: Row, row: Row, columns: int) -> Vector:
    if change.f is None or row.f is None:
        return [f32.NAN] * columns
    total, factor, at_bound = factor_of(row.f, row.e)
    along = sum(c * d for c, d in zip(coarse(row.f), coarse(change.f), strict=True))
    share = 0 if at_bound else f32.divide(f32.rounded(along), f32.rounded(total))
    found = []
    for a, b in zip(change.f, row.f, strict=True):
        left = f32.subtract(f32.rounded(a), f32.multiply(f32.rounded(b), share))
        found.append(f32.shift(f32.multiply(left, factor), change.e - row.e))
    return found


def dot(a: Matrix, b: Matrix) -> Vector:
    """ARB-DOT-001: patterns [R, C] and [R, C] to patterns [R]."""
    columns = columns_of("a", a)
    matrix("a", a, len(a), columns, 0, 2**32 - 1)
    matrix("b", b, len(a), columns, 0, 2**32 - 1)
    found = []
    for left, right in zip(map(fixed, a), map(fixed, b), strict=True):
        if left.f is None or right.f is None:
            found.append(f32.NAN)
            continue
        total = sum(c * d for c, d in zip(coarse(left.f), coarse(right.f), strict=True))
        found.append(f32.shift(f32.rounded(total), left.e + right.e - 16))
    return found
