"""Columns of the scaled output gradient to int8, rounded stochastically (ARB-QUANT-010)."""

from __future__ import annotations

import torch

from ..fuse import fused, scalar
from ..random_bits.generator import Number, random16, split_seed
from .exponents import POISONED, exponent_of, fraction, power_of_two


def _times_power(x: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
    """float32 x * 2^e, e int32 in -100..122 or 127; below 2^-126, where nothing depends on it, anything as
    small.

    Subnormals count in full also in threads of torch that flush them, as those do for ever that it starts
    while the process does (kernels/ambient.py): there they are integers first.
    """
    product = x * power_of_two(e)
    if x.is_cuda:
        return product
    bits = x.view(torch.int32)
    magnitude = bits & 0x7FFFFFFF
    if not bool(((magnitude > 0) & (magnitude < 0x800000)).any()):
        return product
    signed = (bits & 0x7FFFFF) * (bits >> 31 | 1)
    small = signed.float() * 2.0**-23 * power_of_two((e - 126).clamp(min=-126))
    return torch.where((bits & 0x7F800000) == 0, small, product)


def _columns(
    dy: torch.Tensor, e_x: torch.Tensor, key: tuple[int, int], step: Number, stream: Number, first: int
) -> tuple[torch.Tensor, torch.Tensor]:
    e_row = e_x.to(torch.int32).unsqueeze(1)
    d = _times_power(dy, e_row)
    e = torch.where((e_row == POISONED).any(), POISONED, exponent_of(d, 0))
    q = (fraction(d, e) + random16(first, dy.shape, key, step, stream, dy.device)) >> 16
    return q.to(torch.int8), e.squeeze(0).to(torch.int8)


def quantise_columns(
    dy: torch.Tensor, e_x: torch.Tensor, seed: int, step: int, stream: int, first_row: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """dy float32 [T, O], e_x int8 [T] -> q int8 [T, O], e int8 [O]; 127 marks a column that is not finite."""
    q, e = fused(_columns, dy)(
        dy, e_x, split_seed(seed), scalar(step, dy), scalar(stream, dy), first_row * dy.shape[1]
    )
    return q, e
