"""Section 13 over nested lists: heads and attention."""

from fractions import Fraction
from math import isqrt
from typing import Any

from . import float32 as f32
from .checks import Vector, array, integer
from .rows import Row, coarse, factor_of, fixed

Patterns = Any  # nested lists of ints, of the shape that section 11 has

_POISON = -128
_LOG2_E = 0x171547652B82FE  # times 2^-52
_LN_2 = 0x3F317218
_ONE = f32.power(0)


def _extents(name: str, values: Any, rank: int) -> list[int]:
    """Lengths of a nested list along its first elements, for what follows to check the rest against."""
    found = []
    for axis in range(rank):
        if not isinstance(values, list):
            raise TypeError(f"{name} is {type(values).__name__} at axis {axis}, expected a list")
        integer(f"{name}: extent of axis {axis}", len(values), 1, 2**31 - 1)
        found.append(len(values))
        values = values[0]
    return found


def _root(number: Fraction, bits: int) -> int:
    """floor(2^bits times the square root)."""
    return isqrt((number.numerator << 2 * bits) // number.denominator)


def scale(head_dim: int) -> tuple[int, int]:
    """ARB-HEAD-004: the pattern of kappa, and u."""
    for j in range(-1, 8):
        square = Fraction(_LOG2_E**2 << 2 * (j + 1), head_dim << 106)
        if square * 2 >= 1:
            return f32.rounded(2 * _root(square, 80) + 1, -81), 10 + j  # the last bit: there is more
    raise AssertionError(head_dim)


def power(f: int) -> int:
    """ARB-EXP-004."""
    p = 1315
    for constant in (498026175, 1485659542, 2147385344):
        p = (constant - p * f) // 65536
    return p


# -- heads


def _check_angles(cos: Any, sin: Any, positions: int, half: int) -> None:
    integer("numbers of half a head", half, 1, 128)
    integer("positions", positions, 1, 65535)
    array("cos", cos, [positions, half], -(2**15), 2**15 - 1)
    array("sin", sin, [positions, half], -(2**15), 2**15 - 1)


def _angle(value: int) -> int:
    return f32.shift(f32.rounded(value), -14)


def _turned(y: Vector, z: Vector, cos: Vector, sin: Vector, back: bool) -> tuple[Vector, Vector]:
    """ARB-HEAD-002, and back (ARB-HEAD-005)."""
    first, second = [], []
    for a, b, c, s in zip(y, z, map(_angle, cos), map(_angle, sin), strict=True):
        ac, bs = f32.multiply(a, c), f32.multiply(b, s)
        as_, bc = f32.multiply(a, s), f32.multiply(b, c)
        first.append(f32.add(ac, bs) if back else f32.subtract(ac, bs))
        second.append(f32.subtract(bc, as_) if back else f32.add(as_, bc))
    return first, second


def _toward_zero(pattern: int, bits: int) -> int:
    """trunc(x * 2^bits) of a finite pattern."""
    units = f32.units(pattern)
    assert units is not None
    size = abs(units) << bits >> 149
    return -size if units < 0 else size


def _rounded(pattern: int) -> int:
    """ARB-HEAD-003."""
    return max(-127, min(127, (_toward_zero(pattern, 21) + 32768) // 65536))


def _head(halves: list[Vector], part: int, cos: Vector, sin: Vector) -> list[Vector]:
    """One slice, as two halves."""
    half = len(cos)
    row = fixed(halves[0] + halves[1])
    if row.f is None:
        return [[_POISON] * half, [_POISON] * half]
    _, factor, _ = factor_of(row.f, row.e)
    y = [f32.multiply(f32.rounded(value), factor) for value in row.f]
    first, second = y[:half], y[half:]
    if part < 2:
        first, second = _turned(first, second, cos, sin, back=False)
    if part == 0:
        kappa, _ = scale(2 * half)
        first, second = ([f32.multiply(value, kappa) for value in values] for values in (first, second))
    return [[_rounded(value) for value in values] for values in (first, second)]


def heads(x: Patterns, cos: Patterns, sin: Patterns) -> tuple[Patterns, Patterns, Patterns]:
    """ARB-HEAD-001 to -004."""
    batch, positions, _, number, _, half = _extents("x", x, 6)
    array("x", x, [batch, positions, 3, number, 2, half], 0, 2**32 - 1)
    _check_angles(cos, sin, positions, half)
    q, k, v = (
        [
            [[_head(x[b][p][part][n], part, cos[p], sin[p]) for n in range(number)] for p in range(positions)]
            for b in range(batch)
        ]
        for part in range(3)
    )
    return q, k, v


def _back(change: Row, row: Row, part: int, cos: Vector, sin: Vector) -> list[Vector]:
    """ARB-HEAD-005, one slice."""
    half = len(cos)
    if change.f is None or row.f is None:
        return [[f32.NAN] * half, [f32.NAN] * half]
    g = [f32.rounded(value) for value in change.f]
    if part == 0:
        kappa, _ = scale(2 * half)
        g = [f32.multiply(value, kappa) for value in g]
    if part < 2:
        first, second = _turned(g[:half], g[half:], cos, sin, back=True)
        g = first + second
    total, factor, at_bound = factor_of(row.f, row.e)
    along = sum(
        c * ((_toward_zero(value, 0) + 128) // 256) for c, value in zip(coarse(row.f), g, strict=True)
    )
    share = 0 if at_bound else f32.divide(f32.rounded(along), f32.rounded(total))
    found = []
    for value, f in zip(g, row.f, strict=True):
        left = f32.subtract(value, f32.multiply(f32.rounded(f), share))
        found.append(f32.shift(f32.multiply(left, factor), change.e - row.e))
    return [found[:half], found[half:]]


def heads_backward(
    dq: Patterns, dk: Patterns, dv: Patterns, x: Patterns, cos: Patterns, sin: Patterns
) -> Patterns:
    """ARB-HEAD-005."""
    batch, positions, _, number, _, half = _extents("x", x, 6)
    array("x", x, [batch, positions, 3, number, 2, half], 0, 2**32 - 1)
    for name, gradient in (("dq", dq), ("dk", dk), ("dv", dv)):
        array(name, gradient, [batch, positions, number, 2, half], 0, 2**32 - 1)
    _check_angles(cos, sin, positions, half)

    def slice_of(b: int, p: int, part: int, n: int) -> list[Vector]:
        change, row = (dq, dk, dv)[part][b][p][n], x[b][p][part][n]
        return _back(fixed(change[0] + change[1]), fixed(row[0] + row[1]), part, cos[p], sin[p])

    return [
        [[[slice_of(b, p, part, n) for n in range(number)] for part in range(3)] for p in range(positions)]
        for b in range(batch)
    ]


# -- attention


def _check_slices(name: str, values: Patterns, shape: list[int]) -> None:
    array(name, values, shape, -128, 127)
    for b, sequence in enumerate(values):
        for t, row in enumerate(sequence):
            for n, numbers in enumerate(row):
                if _POISON in numbers and set(numbers) != {_POISON}:
                    raise ValueError(f"{name}: -128 at [{b}, {t}, {n}, {numbers.index(_POISON)}], not in all")


def _check_attended(q: Patterns, k: Patterns, v: Patterns, window: int) -> list[int]:
    """ARB-ATT-001. Gives B, A, S, N, D."""
    batch, queries, number, dim = _extents("q", q, 4)
    positions = _extents("k", k, 2)[1]
    _check_slices("q", q, [batch, queries, number, dim])
    _check_slices("k", k, [batch, positions, number, dim])
    _check_slices("v", v, [batch, positions, number, dim])
    integer("positions of k", positions, queries, 65535)
    integer("numbers of a head", dim, 1, 256)
    integer("window", window, 0, 2**31 - 1)
    return [batch, queries, positions, number, dim]


def _seen(i: int, queries: int, positions: int, window: int) -> range:
    """ARB-ATT-001."""
    if window == 0:
        return range(positions)
    place = positions - queries + i
    return range(max(0, place - window + 1), place + 1)


def _product(a: Vector, b: Vector) -> int:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _weight(top: int, z: int, u: int) -> int:
    """ARB-ATT-002."""
    t = min(max(top - z, 0), 15 << u) << (16 - u)
    n, f = divmod(t, 65536)
    return (power(f) + (1 << n)) >> (n + 1)


def attention(q: Patterns, k: Patterns, v: Patterns, window: int) -> tuple[Patterns, Patterns, Patterns]:
    """ARB-ATT-001 to -004."""
    batch, queries, positions, number, dim = _check_attended(q, k, v, window)
    _, u = scale(dim)

    def one(b: int, i: int, n: int) -> tuple[Vector, int, int]:
        mine, seen = q[b][i][n], _seen(i, queries, positions, window)
        if _POISON in mine or any(_POISON in k[b][j][n] or _POISON in v[b][j][n] for j in seen):
            return [f32.NAN] * dim, 0, 0
        z = [_product(mine, k[b][j][n]) for j in seen]
        top = max(z)
        w = [_weight(top, value, u) for value in z]
        found = []
        for c in range(dim):
            total = sum(weight * v[b][j][n][c] for weight, j in zip(w, seen, strict=True))
            found.append(f32.shift(f32.divide(f32.rounded(total), f32.rounded(sum(w))), -5))
        return found, top, sum(w)

    all_of = [[[one(b, i, n) for n in range(number)] for i in range(queries)] for b in range(batch)]
    y, top, total = ([[[one[part] for one in row] for row in rows] for rows in all_of] for part in range(3))
    return y, top, total


def _per_weight(change: int, total: int) -> int:
    """The pattern of G (ARB-ATT-005): 0 where it is below 2^-126, of which f is 0 too."""
    if change & 0x7F800000 == 0x7F800000 or total == 0:
        return f32.NAN
    significand, exponent = f32.parts(change)
    quotient = f32.divide(f32.rounded(significand), f32.shift(f32.rounded(total), -14))
    return f32.shift(quotient, exponent)


def attention_backward(
    dy: Patterns,
    y: Patterns,
    top: Patterns,
    total: Patterns,
    q: Patterns,
    k: Patterns,
    v: Patterns,
    window: int,
) -> tuple[Patterns, Patterns, Patterns]:
    """ARB-ATT-005 and -006."""
    batch, queries, positions, number, dim = _check_attended(q, k, v, window)
    for name, values in (("dy", dy), ("y", y)):
        array(name, values, [batch, queries, number, dim], 0, 2**32 - 1)
    array("top", top, [batch, queries, number], -(2**30), 2**30)
    array("total", total, [batch, queries, number], 0, 2**30)
    dq, dk, dv = (
        [[[None] * number for _ in range(count)] for _ in range(batch)]
        for count in (queries, positions, positions)
    )
    for b in range(batch):
        for n in range(number):
            rows = [[x[b][i][n] for i in range(queries)] for x in (dy, y, top, total, q)]
            found = _of_head(
                rows, [k[b][j][n] for j in range(positions)], [v[b][j][n] for j in range(positions)], window
            )
            for gradient, lines in zip((dq, dk, dv), found, strict=True):
                for t, line in enumerate(lines):
                    gradient[b][t][n] = line
    return dq, dk, dv


def _of_head(rows: list[Any], keys: list[Vector], values: list[Vector], window: int) -> tuple[Any, Any, Any]:
    """Of one sequence and head: rows are dy, y, top, total and q."""
    dy, y, top, total, asked = rows
    queries, positions, dim = len(dy), len(keys), len(keys[0])
    (_, u), s = scale(dim), 15 + (dim - 1).bit_length()
    flat = fixed([_per_weight(change, total[i]) for i in range(queries) for change in dy[i]])
    if flat.f is None or any(pattern & 0x7F800000 == 0x7F800000 for row in y for pattern in row):
        lost = [[[f32.NAN] * dim for _ in range(count)] for count in (queries, positions, positions)]
        return lost[0], lost[1], lost[2]
    f = [flat.f[i * dim : (i + 1) * dim] for i in range(queries)]
    of_q, of_k, of_v = ([[0] * dim for _ in range(count)] for count in (queries, positions, positions))
    for i in range(queries):
        m = [max(-32512, min(32512, _toward_zero(pattern, 13))) for pattern in y[i]]
        mean = (_product(f[i], m) + 128) // 256
        for j in _seen(i, queries, positions, window):
            w = _weight(top[i], _product(asked[i], keys[j]), u)
            ds = (w * (_product(f[i], values[j]) - mean) + (1 << s - 1)) >> s
            for c in range(dim):
                of_q[i][c] += ds * keys[j][c]
                of_k[j][c] += ds * asked[i][c]
                of_v[j][c] += w * f[i][c]

    def finished(sums: list[Vector], factor: int, k: int) -> list[Vector]:
        return [[f32.shift(f32.multiply(f32.rounded(z), factor), k) for z in line] for line in sums]

    scores = s + flat.e - 30 - u
    return finished(of_q, _LN_2, scores), finished(of_k, _LN_2, scores), finished(of_v, _ONE, flat.e - 30)
