"""Random bits that are a function of where they are used (section 3): Philox4x32-10 by logical index.

No generator has a state here. `word(n)` depends on the seed, the step, the stream and n alone, so any order
of computation, on any machine, meets the same bits.
"""

from typing import Final

import numpy as np

from ..limits import BOUNDS, Array, Ints, check_bound, check_integer, wide

M0: Final = 0xD2511F53
M1: Final = 0xCD9E8D57
W0: Final = 0x9E3779B9
W1: Final = 0xBB67AE85
LOW: Final = 0xFFFFFFFF
ROUNDS: Final = 10


def multiply(m: int, c: Ints) -> tuple[Ints, Ints]:
    """The upper and the lower 32 bits of m * c, both factors below 2^32."""
    product = np.uint64(m) * c.astype(np.uint64)  # the one product that needs all 64 bits
    return wide(product >> np.uint64(32)), wide(product & np.uint64(LOW))


def philox4x32(counter: Array, key: tuple[int, int]) -> Ints:
    """ARB-RNG-001: counters int64 [..., 4] and a key of two words, all in 0..2^32-1, give int64 [..., 4]."""
    c0, c1, c2, c3 = (wide(counter[..., i]) for i in range(4))
    k0, k1 = key
    for _ in range(ROUNDS):
        high0, low0 = multiply(M0, c0)
        high1, low1 = multiply(M1, c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + W0) & LOW, (k1 + W1) & LOW
    return np.stack([c0, c1, c2, c3], axis=-1)


def word(n: Ints, seed: int, step: int, stream: int) -> Ints:
    """ARB-RNG-002: word(n) in 0..2^32-1 for each logical index of n, int64 of any shape, 0 or more."""
    block = n >> 2
    counter = np.stack(
        [block & LOW, block >> 32, np.full_like(n, step), np.full_like(n, stream)],
        axis=-1,
    )
    words = philox4x32(counter, (seed & LOW, seed >> 32))
    return np.take_along_axis(words, (n & 3)[..., np.newaxis], axis=-1)[..., 0]


def r16(n: Ints, seed: int, step: int, stream: int) -> Ints:
    """ARB-RNG-004: the upper half of word(n), 0..65535."""
    return word(n, seed, step, stream) >> 16


def stream_of(tensor_id: int, purpose: int) -> int:
    """ARB-RNG-002."""
    return 16 * tensor_id + purpose


def philox(first: int, count: int, seed: int, step: int, stream: int) -> Ints:
    """word(first) .. word(first + count - 1), int64 [count] (ARB-RNG-001..003).

    `ValueError` for an integer outside ARB-STATE-005.
    """
    first = check_bound("first", first)
    count = check_integer("count", count, 1, BOUNDS["first"][1])
    seed, step, stream = check_bound("seed", seed), check_bound("step", step), check_bound("stream", stream)
    return word(first + np.arange(count, dtype=np.int64), seed, step, stream)
