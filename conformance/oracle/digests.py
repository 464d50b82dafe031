"""Section 14: digests of rows of words, as one integer each."""

from .checks import Matrix, Vector, columns_of, matrix, vector

_SIZE = 1 << 64  # of a word: how many there are
_LOWEST, _HIGHEST = -(1 << 63), (1 << 63) - 1


def mixed(word: int, place: int) -> int:
    """ARB-DIG-001: mix(w, i) in 0..2^64-1, of two integers of any size."""
    if word % _SIZE == 0:
        return 0
    z = word % _SIZE ^ (place + 1) * 0x9E3779B97F4A7C15 % _SIZE
    for bits, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ z // 2**bits) * factor % _SIZE
    return z ^ z // 2**31


def digest(words: Matrix, first: Vector) -> Vector:
    """ARB-DIG-001: the sums of rows, -2^63..2^63-1."""
    columns = columns_of("words", words)
    matrix("words", words, len(words), columns, _LOWEST, _HIGHEST)
    vector("first", first, len(words), _LOWEST, _HIGHEST)
    found = []
    for row, start in zip(words, first, strict=True):
        total = sum(mixed(word, start + c) for c, word in enumerate(row))
        found.append((total + 2**63) % _SIZE - 2**63)
    return found
