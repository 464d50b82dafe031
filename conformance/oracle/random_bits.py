"""Section 3: Philox4x32-10, and the initial codes that are drawn from it.

A word depends on the seed, the step, the stream and the logical index n alone. That is the whole reason why
votes do not depend on how a backend tiles its work.
"""

from functools import lru_cache

from .checks import INT32_MAX, Matrix, Vector, integer
from .packing import pack

Block = tuple[int, int, int, int]

INITIAL_CODES = 0
VOTES = 3
SCALE_VOTES = 4

_MASK = 2**32 - 1
_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85


@lru_cache(maxsize=64)
def philox4x32(counter: Block, key: tuple[int, int]) -> Block:
    """ARB-RNG-001: ten rounds of Philox4x32; the four 32-bit words of one counter."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for round_number in range(10):
        if round_number:
            k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
        product0, product1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (
            product1 >> 32 ^ c1 ^ k0,
            product1 & _MASK,
            product0 >> 32 ^ c3 ^ k1,
            product0 & _MASK,
        )
    return c0, c1, c2, c3


def word(n: int, seed: int, step: int, stream: int) -> int:
    """ARB-RNG-002, -003: the 32-bit word of the logical index n."""
    block = n >> 2
    counter = (block & _MASK, block >> 32, step, stream)
    return philox4x32(counter, (seed & _MASK, seed >> 32))[n & 3]


def r16(n: int, seed: int, step: int, stream: int) -> int:
    """ARB-RNG-004: the upper half of the word, 0..65535."""
    return word(n, seed, step, stream) >> 16


def check_bits(seed: int, step: int, stream: int, first: int, count: int) -> None:
    """ARB-STATE-005, ARB-RNG-002: scalars that fit key and counter, and logical indices n >> 2 of 64 bits."""
    integer("seed", seed, 0, 2**64 - 1)
    integer("step", step, 0, 2**32 - 1)
    integer("stream", stream, 0, 2**32 - 1)
    integer("first", first, 0, 2**66 - 1)
    integer("count", count, 1, 2**66 - first)


def philox(first: int, count: int, seed: int, step: int, stream: int) -> Vector:
    """ARB-RNG-001, -002: the words word(first) ... word(first + count - 1), each 0..2^32-1."""
    check_bits(seed, step, stream, first, count)
    return [word(n, seed, step, stream) for n in range(first, first + count)]


def initialise(out_features: int, in_features: int, seed: int, tensor_id: int) -> Matrix:
    """ARB-INIT-001: initial codes [O, ceil(I/4)], a third of the trits 0, padding fields code 1."""
    integer("out_features", out_features, 1, INT32_MAX // 127)
    integer("in_features", in_features, 1, INT32_MAX // 127)
    integer("seed", seed, 0, 2**64 - 1)
    integer("tensor_id", tensor_id, 0, 2**28 - 1)
    stream = 16 * tensor_id + INITIAL_CODES
    trits = []
    for o in range(out_features):
        words = [word(o * in_features + i, seed, 0, stream) for i in range(in_features)]
        trits.append([(w * 3 >> 32) - 1 for w in words])
    return pack(trits)
