"""Float32 as integers: a finite pattern is a whole number of 2^-149, and a result is rounded by hand.

2^-149 is the least subnormal, so every finite float32 is an integer of at most 277 bits in this unit and all
comparisons and power-of-two products are exact.
"""

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
