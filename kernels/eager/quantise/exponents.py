"""The quantiser's core (section 4): exponents off the bits, fractions, poisoned sets."""

from __future__ import annotations

import torch

POISONED = 127
LOWEST = -100
_INFINITY_BITS = 0x7F800000
_MAGNITUDE = 0x7FFFFFFF
_LARGEST_MANTISSA = 0x7E0000  # of 127 = 1.984375 * 2^6


def exponent_of(x: torch.Tensor, dim: int) -> torch.Tensor:
    """Exponents int32 of max|x| along `dim`, kept as an axis of 1; 127 where a value is not finite
    (ARB-QUANT-002, -007)."""
    # as integers: a NaN that a float maximum returns may carry a sign
    bits = (x.view(torch.int32) & _MAGNITUDE).amax(dim, keepdim=True)
    e = (bits >> 23) - 133 + ((bits & 0x7FFFFF) > _LARGEST_MANTISSA).int()
    return e.clamp(min=LOWEST).masked_fill(bits >= _INFINITY_BITS, POISONED)


def power_of_two(exponent: torch.Tensor) -> torch.Tensor:
    """float32 2^exponent from int32 exponents in -126..127."""
    return ((exponent + 127) << 23).view(torch.float32)


def fraction(x: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
    """f = trunc(x * 2^(16-e)), int32; 0 in poisoned sets (ARB-QUANT-003)."""
    poisoned = e == POISONED
    return torch.where(poisoned, 0.0, x * power_of_two(16 - e)).to(torch.int32)
