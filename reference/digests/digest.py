"""One number for each row of words (section 14).

It is the one operation whose arithmetic wraps, so it computes in uint64.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..limits import Ints, check_array, wide

Words = NDArray[np.uint64]  # whose arithmetic is modulo 2^64

OF_A_PLACE: Final = np.uint64(0x9E3779B97F4A7C15)
FIRST_FACTOR: Final = np.uint64(0xBF58476D1CE4E5B9)
SECOND_FACTOR: Final = np.uint64(0x94D049BB133111EB)


def mix(words: Words, places: Words) -> Words:
    """mix(w, i) of each word and its place, of one shape."""
    z = words ^ ((places + np.uint64(1)) * OF_A_PLACE)
    z = (z ^ (z >> np.uint64(30))) * FIRST_FACTOR
    z = (z ^ (z >> np.uint64(27))) * SECOND_FACTOR
    return np.where(words == 0, np.uint64(0), z ^ (z >> np.uint64(31)))


def digest(words: Ints, first: Ints) -> Ints:
    """words int64 [R, C] and first int64 [R] to digests int64 [R] (ARB-DIG-001).

    `TypeError` for another dtype.
    """
    check_array("words", words, np.int64, None, None)
    check_array("first", first, np.int64, len(words))
    # from two's complement to the number modulo 2^64, and back
    starts: Words = first.astype(np.uint64)[:, np.newaxis]
    steps: Words = np.arange(words.shape[1]).astype(np.uint64)
    sums: Words = mix(words.astype(np.uint64), starts + steps).sum(axis=1, dtype=np.uint64)
    return wide(sums)
