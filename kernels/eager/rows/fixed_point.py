"""Rows in fixed point (ARB-ROW-001), the factor of a norm, and powers of two by the exponent field.

What is float32 here is one operation of torch after another, never through torch.compile: a compiler may
fuse a product into a sum (ARB-FLOAT-001).
"""

from __future__ import annotations

import torch

from ..quantise.exponents import POISONED, exponent_of, fraction, power_of_two

_NAN = 0x7FC00000
_INFINITY = 0x7F800000
_SIGN = -(1 << 31)


def rows_of(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x float32 [R, C] -> f int32 [R, C], e int32 [R, 1]; 127 in poisoned rows, whose f are 0."""
    e = exponent_of(x, 1)
    return fraction(x, e), e


def coarse(f: torch.Tensor) -> torch.Tensor:
    """c int32 of f int32 (ARB-ROW-001)."""
    return (f + 128) >> 8


def sum_of_products(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """int64 [R, 1] of int32 [R, C] each, whose products are below 2^31: those of two c are."""
    return (a * b).sum(1, keepdim=True, dtype=torch.int64)


def norm_factor(total: torch.Tensor, e: torch.Tensor, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What f is multiplied by, float32 [R, 1], and its bound (ARB-NORM-001); total int64, e int32 [R, 1]."""
    mean = total.float() / torch.tensor(columns, dtype=torch.float32, device=e.device)
    bound = power_of_two(e - 6)
    return torch.minimum(root(mean).reciprocal() * 2.0**-8, bound), bound


def root(x: torch.Tensor) -> torch.Tensor:
    """The square root of float32, to nearest. torch's own is not on a CPU (MKL, every fifth is off by one
    bit); its root in float64 is close enough: no root of 24 bits is as near to a tie as that errs."""
    return x.double().sqrt().float()


def shifted(v: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """v * 2^k of v float32, 0 or normal, and k int32 (ARB-FLOAT-002). What a product could flush is 0 before
    it, and on a GPU there is none."""
    if v.device.type == "cpu" and bool(((k > -127) & (k < 128)).all()):
        smallest = power_of_two((-126 - k).clamp(min=-126))
        return torch.where(v.abs() < smallest, 0.0, v * power_of_two(k))
    bits = v.view(torch.int32)
    field = (bits >> 23 & 0xFF) + k
    moved = torch.where(field >= 255, _INFINITY, field << 23 | bits & 0x7FFFFF)
    nothing = (field < 1) | (bits & 0x7FFFFFFF == 0)
    return torch.where(nothing, 0, bits & _SIGN | moved).view(torch.float32)


def nan_where(poisoned: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The one NaN in the elements of poisoned rows."""
    return torch.where(poisoned, _NAN, y.view(torch.int32)).view(torch.float32)


def is_poisoned(e: torch.Tensor) -> torch.Tensor:
    """Whether rows of these exponents are."""
    return e == POISONED
