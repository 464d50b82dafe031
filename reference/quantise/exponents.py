"""Float32 taken apart and put together with integers: sections 4 and ARB-LIN-003.

A finite float32 is `sign * significand * 2^power` with a significand below 2^24. On these integers the
quantisers are exact for every input, subnormals and the largest finite value among them; no float is added,
multiplied or compared. The only float arithmetic of this package is the product in `scaled_float32`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..limits import EXPONENT_MIN, POISONED, Array, Ints, Mask, narrow, wide


class Parts(NamedTuple):
    """Values sign * significand * 2^power; where `finite` is False the other three mean nothing."""

    sign: Ints
    significand: Ints
    power: Ints
    finite: Mask


def bit_length(a: Ints) -> Ints:
    """The bit length of integers in 0..2^63-1; that of 0 is 0."""
    length = np.zeros(a.shape, np.int64)
    for bit in range(63):
        remaining = (a >> bit) > 0
        if not remaining.any():
            break
        length = length + remaining
    return length


def split(x: NDArray[np.float32]) -> Parts:
    """The parts of float32 values, read off their bits."""
    bits = wide(x.view(np.uint32))
    field = (bits >> 23) & 0xFF
    mantissa = bits & 0x7FFFFF
    normal = field > 0
    return Parts(
        sign=1 - 2 * (bits >> 31),
        significand=np.where(normal, 2**23 + mantissa, mantissa),
        power=np.where(normal, field, 1) - 150,
        finite=field < 255,
    )


def times_power(parts: Parts, power: Ints) -> Parts:
    """The float32 product of `parts` and 2^power; not finite where it overflows (ARB-QUANT-010).

    A product below 2^-126 is kept exact here, where float32 would round it: at e >= -100 either is 0.
    """
    shifted = parts.power + power
    overflows = shifted + bit_length(parts.significand) > 128
    return parts._replace(power=shifted, finite=parts.finite & ~overflows)


def smallest_exponent(significand: Ints, power: Ints) -> Ints:
    """For a = significand * 2^power the smallest e >= -100 with a <= 127 * 2^e (ARB-QUANT-001, -002)."""
    length = bit_length(significand)
    # 2^(length-1) <= significand < 2^length: e is power + length - 7, or one more.
    larger = (significand << 7) > (127 << length)
    e = power + length - 7 + larger
    return np.where(significand == 0, EXPONENT_MIN, np.maximum(e, EXPONENT_MIN))


def fixed_point(parts: Parts, e: Ints) -> Ints:
    """f = trunc(x * 2^(16-e)) (ARB-QUANT-003), for e that `smallest_exponent` allows."""
    shift = parts.power + 16 - e
    # |x| <= 127 * 2^e keeps the left shift of a significand that is not 0 at 22 or less. Truncation is
    # toward zero because it is the magnitude that is shifted.
    magnitude = (parts.significand << np.clip(shift, 0, 22)) >> np.clip(-shift, 0, 63)
    f: Ints = parts.sign * magnitude
    return f


def quantise_sets(parts: Parts, noise: Ints | int, axis: int) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """q, of the shape of `parts`, and e, one for each set of values along `axis`.

    q = (f + noise) >> 16: noise is 32768 for the nearest, r16(n) for stochastic (ARB-QUANT-001..007).
    """
    poisoned = ~parts.finite.all(axis=axis, keepdims=True)
    clean = parts._replace(significand=np.where(poisoned, 0, parts.significand))  # f = 0, so q = 0
    # The smallest e for the largest magnitude of a set is the largest of the elements' smallest e.
    each = smallest_exponent(clean.significand, clean.power)
    e = each.max(axis=axis, keepdims=True, initial=EXPONENT_MIN)
    q = (fixed_point(clean, e) + noise) >> 16
    return narrow(q, np.int8), narrow(np.where(poisoned, POISONED, e).squeeze(axis), np.int8)


def scaled_float32(z: Array, k: Array) -> NDArray[np.float32]:
    """float32(z) * 2^k for int32 z and k in -126..127: one rounding, then one product (ARB-LIN-003)."""
    power = ((wide(k) + 127) << 23).astype(np.uint32).view(np.float32)
    with np.errstate(over="ignore"):
        return z.astype(np.float32) * power
