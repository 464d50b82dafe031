"""The moment of a group, a running mean square, and the votes that it makes (ARB-MOM, ARB-VOTE-005).

A number of 2^x times an integer is a pair (integer, x) here; the integer 0 has no exponent that matters.
"""

from math import isqrt

Scaled = tuple[int, int]

_BITS = 21  # of m, below the exponent
_BIAS = 512
_MEMORY = 128


def unpacked(moment: int) -> Scaled:
    """ARB-MOM-001: (m, x)."""
    return moment % 2**_BITS, moment // 2**_BITS - _BIAS


def _cut(value: int, x: int, bits: int) -> Scaled:
    """The same number with an integer of so many bits, low ones cut off; of 0 there is no such thing."""
    if value == 0:
        return 0, x
    surplus = value.bit_length() - bits
    return (value // 2**surplus if surplus > 0 else value * 2**-surplus), x + surplus


def mean_square(values: list[int], e_g: int) -> Scaled:
    """ARB-MOM-002 for the G of one group: (a, x_a)."""
    s = max(sum(map(abs, values)).bit_length() - 15, 0)
    q = sum(((abs(g) + 2**s // 2) // 2**s) ** 2 for g in values)
    wide, x = _cut(q, 2 * (s + e_g), 31)
    return _cut(wide // len(values), x, _BITS)


def next_moment(moment: int, square: Scaled, n_done: int) -> int:
    """ARB-MOM-003."""
    c = min(n_done + 1, _MEMORY)
    parts = [(m, x, weight) for (m, x), weight in ((unpacked(moment), c - 1), (square, 1)) if m]
    if not parts:
        return 0
    top = max(x for _, x, _ in parts)
    d = sum((m >> (top - x)) * weight for m, x, weight in parts) * 8 // c
    m, x = _cut(d, top - 3, _BITS)
    return (x + _BIAS) * 2**_BITS + m if m and x >= -_BIAS else 0


def share(moment: int, e_g: int, gain: int) -> tuple[int, int]:
    """ARB-VOTE-005: factor and shift of a vote; of a moment of 0 those that give none."""
    if moment == 0:
        return 0, 0
    m, x = unpacked(moment)
    y = x - 2 * e_g
    p = y % 2
    u = isqrt(2**52 // (m * 2**p))
    f = 4 * gain * u
    c = max(f.bit_length() - 31, 0)
    return f >> c, min(max(26 + (y - p) // 2 - c, 0), 62)
