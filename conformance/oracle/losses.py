"""Section 13 over float32 patterns: probabilities and losses."""

from . import float32 as f32
from .checks import Matrix, Vector, columns_of, matrix, tokens_in_call, vector
from .rows import coarse, fixed

_LOG2_E = 0x3FB8AA3B
_ONE = 1 << 30
_SERIES = (_ONE, 744261112, 257940808, 59591895, 10304880, 1387046, 123459)
_MOST = f32.power(20)
_MAGNITUDE = 0x7FFFFFFF


def exponential(f: int) -> int:
    """ARB-EXP-001."""
    p = _SERIES[6]
    for i in (5, 4, 3, 2, 1, 0):
        p = _SERIES[i] - (p * f >> 20)
    return p


def octaves(d: int) -> int:
    """ARB-EXP-002, of the pattern of a number of 0 or more, or of an infinity."""
    if d == f32.INFINITY:
        return 1 << 40
    numerator = f32.units(d)
    assert numerator is not None
    if numerator >> 60 == 0:  # below 2^-89: neither product has a unit
        return 0
    h = f32.multiply(d, _LOG2_E) if d < f32.power(100) else _MOST
    whole = f32.units(min(h, _MOST))  # patterns of what is not negative are in the order of the numbers
    assert whole is not None
    return whole << 20 >> 149


def weight(t: int) -> int:
    """ARB-EXP-002."""
    return exponential(t % (1 << 20)) >> min(t >> 20, 31)


def log2(n: int) -> int:
    """ARB-EXP-003."""
    k = n.bit_length() - 1
    m, found = n >> (k - 30), k
    for _ in range(20):
        m = m * m >> 30
        found *= 2
        if m >= 1 << 31:
            m, found = m >> 1, found + 1
    return found


def _difference(a: int, b: int) -> int:
    """The pattern of a - b for finite patterns with a >= b; what is subnormal may be anything as small."""
    m, n = f32.units(a), f32.units(b)
    assert m is not None
    assert n is not None
    if m - n < 1 << 23:
        return 0
    return f32.INFINITY if m - n >= (1 << 277) - (1 << 252) else f32.rounded(m - n, -149)


def _weights(row: Vector) -> tuple[Vector, Vector] | None:
    """t and w of each element (ARB-SOFT-001); None of a poisoned row."""
    values = [f32.units(pattern) for pattern in row]
    if None in values:
        return None
    largest = max(row, key=lambda pattern: f32.units(pattern) or 0)
    t = [octaves(_difference(largest, pattern)) for pattern in row]
    return t, [weight(value) for value in t]


def _shares(w: Vector) -> Vector:
    total = f32.rounded(sum(w))
    return [f32.divide(f32.rounded(value), total) for value in w]


def softmax(x: Matrix) -> Matrix:
    """ARB-SOFT-001: patterns [R, C] to patterns [R, C]."""
    columns = columns_of("x", x)
    matrix("x", x, len(x), columns, 0, 2**32 - 1)
    found = [_weights(row) for row in x]
    return [[f32.NAN] * columns if weights is None else _shares(weights[1]) for weights in found]


def softmax_backward(dp: Matrix, p: Matrix) -> Matrix:
    """ARB-SOFT-002: patterns [R, C] of the gradient and of the probabilities to those of the argument's."""
    columns = columns_of("dp", dp)
    matrix("dp", dp, len(dp), columns, 0, 2**32 - 1)
    matrix("p", p, len(dp), columns, 0, 2**32 - 1)
    found = []
    for change, row in zip(dp, p, strict=True):
        (f_d, e_d), (f_p, e_p) = fixed(change), fixed(row)
        if f_d is None or f_p is None or e_p > -6:
            found.append([f32.NAN] * columns)
            continue
        total = sum(c * d for c, d in zip(coarse(f_p), coarse(f_d), strict=True))
        mean = f32.multiply(f32.rounded(total), f32.power(e_p))
        less = [f32.subtract(f32.rounded(value), mean) for value in f_d]
        v = [f32.multiply(a, f32.rounded(b)) for a, b in zip(less, f_p, strict=True)]
        found.append([f32.shift(value, e_d + e_p - 32) for value in v])
    return found


def sigmoid(x: Matrix) -> Matrix:
    """ARB-SOFT-003: patterns [R, C] to patterns [R, C]."""
    columns = columns_of("x", x)
    matrix("x", x, len(x), columns, 0, 2**32 - 1)
    return [[_sigmoid(pattern) for pattern in row] for row in x]


def _sigmoid(pattern: int) -> int:
    size = pattern & _MAGNITUDE
    if size > f32.INFINITY:
        return f32.NAN
    w = weight(octaves(size))
    return f32.divide(f32.rounded(w if pattern >> 31 and size else _ONE), f32.rounded(_ONE + w))


def cross_entropy(x: Matrix, targets: Vector) -> tuple[Vector, Matrix]:
    """ARB-LOSS-001: patterns [T, C] and a target for each row to losses [T] and patterns [T, C]."""
    columns = columns_of("x", x)
    matrix("x", x, len(x), columns, 0, 2**32 - 1)
    tokens_in_call(len(x))
    vector("targets", targets, len(x), 0, columns - 1)
    losses, gradients = [], []
    for row, target in zip(x, targets, strict=True):
        found = _weights(row)
        if found is None:
            losses.append(-1)
            gradients.append([f32.NAN] * columns)
            continue
        t, w = found
        losses.append(log2(sum(w)) - (30 << 20) + t[target])
        shares = _shares(w)
        shares[target] = f32.subtract(shares[target], f32.power(0))
        gradients.append(shares)
    return losses, gradients


def squared_error(x: Matrix, y: Matrix) -> Vector:
    """ARB-LOSS-003: patterns [R, C] and [R, C] to losses [R]."""
    columns = columns_of("x", x)
    matrix("x", x, len(x), columns, 0, 2**32 - 1)
    matrix("y", y, len(x), columns, 0, 2**32 - 1)
    return [_squares(a, b) for a, b in zip(x, y, strict=True)]


def _squares(x: Vector, y: Vector) -> int:
    total = 0
    for a, b in zip(x, y, strict=True):
        m, n = f32.units(a), f32.units(b)
        if m is None or n is None:
            return -1
        d = _difference(a, b) if m >= n else _difference(b, a)
        if d == f32.INFINITY:
            return -1
        if d >= f32.power(10):
            total += 1 << 40
        elif d >= f32.power(-11):
            square = f32.units(f32.multiply(d, d))
            assert square is not None
            total += square << 20 >> 149
    return total
