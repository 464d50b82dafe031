"""The whole update of a linear layer: weight gradient, then votes, firing and exponents (ARB-UPD-002)."""

from __future__ import annotations

from typing import Any

import torch

from ..linear.weight_gradient import weight_gradient
from .ternary_update import ternary_update


def linear_update(
    q_g: torch.Tensor, e_g: torch.Tensor, q_x: torch.Tensor, *state_and_how: Any
) -> torch.Tensor:
    """q_g int8 [T, O], e_g int8 [O], q_x int8 [T, I], then the state and `how` as of `ternary_update` ->
    counts int64 [5]."""
    return ternary_update(weight_gradient(q_g, q_x), e_g, *state_and_how)
