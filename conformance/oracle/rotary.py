"""ARB-ROT-001: the phases of positions, from fractions."""

from fractions import Fraction

from .checks import Vector

# pi to 70 decimals
_PI = Fraction(31415926535897932384626433832795028841971693993751058209749445923078164, 10**70)


def _tenth_power(i: int, half: int) -> Fraction:
    """10000^(-i / half), within 2^-200 of it: the root of index `half` by bisection."""
    low, high = 0, 1 << 220
    target = Fraction(1, 10**4) ** i
    while high - low > 1:
        middle = (low + high) // 2
        if Fraction(middle, 1 << 220) ** half <= target:
            low = middle
        else:
            high = middle
    return Fraction(low, 1 << 220)


def phases(first: int, count: int, head_dim: int) -> list[Vector]:
    """The phases [count, head_dim / 2], in 2^-16 of a turn."""
    half = head_dim // 2
    steps = [int((1 << 64) * _tenth_power(i, half) / (2 * _PI)) for i in range(half)]
    return [
        [((t * step % (1 << 64) + (1 << 47)) >> 48) % 65536 for step in steps]
        for t in range(first, first + count)
    ]
