"""An update from a given integer gradient, in place (ARB-UPD-001)."""

from __future__ import annotations

from typing import Any

import torch

from .rules import apply_rules


def ternary_update(
    gradient: torch.Tensor,
    e_g: torch.Tensor,
    codes: torch.Tensor,
    t_accum: torch.Tensor,
    e: torch.Tensor,
    e_accum: torch.Tensor,
    moment: torch.Tensor,
    *how: Any,
) -> torch.Tensor:
    """gradient int32 [O, I], e_g int8 [O]; codes, t_accum, e, e_accum, moment in place; `how` as in the
    specification -> counts int64 [5]."""
    update = apply_rules(gradient, e_g, None, (codes, t_accum, e, e_accum, moment), *how)
    codes.copy_(update.codes)
    t_accum.copy_(update.t_accum)
    e.copy_(update.e)
    e_accum.copy_(update.e_accum)
    moment.copy_(update.moment)
    return torch.stack([change.sum() for change in update.changes])
