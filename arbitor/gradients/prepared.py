"""What one update of one module needs of its gradient, before anything has changed."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..ranks import EXPONENT_MIN
from .sums import SHIFT

LARGEST_EXPONENT = 122 + SHIFT  # ARB-UPD-004


@dataclass(frozen=True)
class Prepared:
    """What one update of one module needs: quantised operands, the exponents of the gradient, int8, and
    whether it is poisoned (bool tensor [])."""

    operands: tuple[torch.Tensor, torch.Tensor]
    e_g: torch.Tensor
    poisoned: torch.Tensor

    def lowered(self, octaves: int) -> torch.Tensor:
        """The exponents of a gradient that is 2^octaves times smaller (ARB-RUN-017)."""
        if not octaves:
            return self.e_g
        return (self.e_g.int() - octaves).clamp(EXPONENT_MIN, LARGEST_EXPONENT).to(torch.int8)
