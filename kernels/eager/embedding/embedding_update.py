"""The update of an embedding table: rows that occur are updated, no other row changes in any byte
(ARB-EMB-004, -005)."""

from __future__ import annotations

from typing import Any

import torch

from ..update.rules import apply_rules
from .embedding_gradient import embedding_gradient

LARGEST_COUNT = 2**31 - 1


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
    counts int64 [5].

    All rows are computed and those that occur are written: gathering them first would wait for the device.
    Raises ValueError for a token outside the table.
    """
    rows = codes.shape[0]
    gradient = embedding_gradient(tokens, q, rows)
    touched = torch.zeros(rows, 1, dtype=torch.bool, device=codes.device)
    touched.index_fill_(0, tokens, True)
    state = (codes, t_accum, e, corr_accum, moment)
    update = apply_rules(gradient, e_g, step_counter, state, *how)
    pairs = (
        (codes, update.codes),
        (t_accum, update.t_accum),
        (e, update.e),
        (corr_accum, update.e_accum),
        (moment, update.moment),
    )
    for old, new in pairs:
        old.copy_(torch.where(touched, new, old))
    step_counter.add_(touched.squeeze(1) & (step_counter < LARGEST_COUNT))
    return torch.stack([(change & touched).sum() for change in update.changes])
