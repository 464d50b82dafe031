"""The update of an embedding table: rows that occur, and no other row is written (ARB-EMB-004, -005)."""

from __future__ import annotations

from typing import Any

import torch

from ...checks import check_tokens
from ..launch import in_place, require_device
from ..update.ternary_update import group_update
from .embedding_gradient import gradient_and_touched


def embedding_update(
    tokens: torch.Tensor,
    q: torch.Tensor,
    e_g: torch.Tensor,
    codes: torch.Tensor,
    t_accum: torch.Tensor,
    e: torch.Tensor,
    corr_accum: torch.Tensor,
    moment: torch.Tensor,
    step_counter: torch.Tensor,
    *how: Any,
) -> torch.Tensor:
    """tokens int64 [T], q int8 [T, D], e_g int8 [1]; the state in place; `how` as in the specification ->
    counts int64 [5]. Raises ValueError for a token outside the table."""
    rows = codes.shape[0]
    require_device("embedding_update", tokens)
    check_tokens(tokens, rows)
    gradient, touched = gradient_and_touched(tokens, q, rows, mark=True)
    with in_place(codes, t_accum, e, corr_accum, moment, step_counter) as (*state, counter):
        return group_update(gradient, e_g, tuple(state), how, touched, counter)
