"""Float32 as integers: a finite pattern is a whole number of 2^-149, and a result is rounded by hand.

2^-149 is the least subnormal, so every finite float32 is an integer of at most 277 bits in this unit and all
comparisons and power-of-two products are exact.
"""

from math import isqrt

INFINITY = 0x7F800000
NAN = 0x7FC00000
UNIT = -149


def units(pattern: int) -> int | None:
    """The value of a 32-bit pattern in units of 2^-149; None for a NaN or an infinity."""
    exponent, mantissa = pattern >> 23 & 0xFF, pattern & 0x7FFFFF
    if exponent == 255:
        return None
    # Exponent fields 0 (subnormal, no hidden bit) and 1 have the same weight.
    magnitude = mantissa if exponent == 0 else (mantissa + 0x800000) << (exponent - 1)
    return -magnitude if pattern >> 31 else magnitude


def round_and_scale(z: int, k: int) -> int:
    """ARB-LIN-003: the pattern of float32(z) * 2^k, z rounded to nearest, ties to even; -126 <= k <= 127.

    z = 0 gives +0.0. The product is exact, or overflows to an infinity of z's sign.
    """
    if z == 0:
        return 0
    sign = 0x80000000 if z < 0 else 0
    significand, exponent = abs(z), 0
    dropped = max(significand.bit_length() - 24, 0)
    if dropped:
        rest = significand & ((1 << dropped) - 1)
        significand, exponent, half = significand >> dropped, dropped, 1 << (dropped - 1)
        if rest > half or (rest == half and significand & 1):
            significand += 1
    # Normalise to 24 bits; a carry out of the rounding has left 2^24, whose lowest bit is 0.
    shift = 24 - significand.bit_length()
    significand = significand << shift if shift >= 0 else significand >> -shift
    field = exponent - shift + k + 23 + 127
    if field >= 255:
        return sign | INFINITY
    return sign | field << 23 | significand & 0x7FFFFF


# -- ARB-FLOAT-001: one operation, one rounding. Numbers are patterns of what is 0 or normal; a result that is
# neither is an error of the specification, which says that there is none. A zero is +0.0.


def rounded(number: int, exponent: int = 0) -> int:
    """The pattern of number * 2^exponent to nearest, ties to even."""
    if number == 0:
        return 0
    size = abs(number)
    dropped = size.bit_length() - 24
    if dropped <= 0:
        significand = size << -dropped
    else:
        half, rest = 1 << (dropped - 1), size & ((1 << dropped) - 1)
        significand = size >> dropped
        significand += rest > half or (rest == half and significand & 1)
    if significand == 1 << 24:
        significand, dropped = 1 << 23, dropped + 1
    field = exponent + dropped + 150
    if not 1 <= field <= 254:
        raise ArithmeticError(f"{number} * 2^{exponent} is no normal float32")
    return (0x80000000 if number < 0 else 0) | field << 23 | significand & 0x7FFFFF


def parts(pattern: int) -> tuple[int, int]:
    """A significand with its sign, and the power of two that it is of."""
    exponent = pattern >> 23 & 0xFF
    significand = pattern & 0x7FFFFF | (0x800000 if exponent else 0)
    return (-significand if pattern >> 31 else significand), max(exponent, 1) - 150


def power(k: int) -> int:
    """2^k."""
    return rounded(1, k)


def add(a: int, b: int) -> int:
    """a + b."""
    (m, x), (n, y) = parts(a), parts(b)
    low = min(x, y)
    return rounded((m << (x - low)) + (n << (y - low)), low)


def subtract(a: int, b: int) -> int:
    """a - b."""
    (m, x), (n, y) = parts(a), parts(b)
    low = min(x, y)
    return rounded((m << (x - low)) - (n << (y - low)), low)


def multiply(a: int, b: int) -> int:
    """a * b."""
    (m, x), (n, y) = parts(a), parts(b)
    return rounded(m * n, x + y)


def divide(a: int, b: int) -> int:
    """a / b."""
    (m, x), (n, y) = parts(a), parts(b)
    quotient, rest = divmod(abs(m) << 60, abs(n))
    wide = 2 * quotient + (rest > 0)  # a last bit that stands for what is left
    return rounded(-wide if (m < 0) != (n < 0) else wide, x - y - 61)


def root(a: int) -> int:
    """The square root of what is not negative."""
    m, x = parts(a)
    square = m << (60 + x % 2)
    found = isqrt(square)
    return rounded(2 * found + (found * found < square), (x - x % 2 - 60) // 2 - 1)


def shift(a: int, k: int) -> int:
    """ARB-FLOAT-002: a * 2^k; +0.0 below 2^-126, an infinity from 2^128 on."""
    field = (a >> 23 & 0xFF) + k
    if field < 1 or a & 0x7FFFFFFF == 0:
        return 0
    return a & 0x80000000 | (INFINITY if field >= 255 else field << 23 | a & 0x7FFFFF)
