"""Multiplies in bfloat16, which is not exact beyond 2^8."""

from __future__ import annotations

import torch

from arbitor.conformance.cheats.lies import HONEST

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_weight_gradient.py::test_one_token_gives_every_product",
    "says": ("gradient differs in",),
    "clause": "ARB-LIN-005",
}


def weight_gradient(q_g: torch.Tensor, q_x: torch.Tensor) -> torch.Tensor:
    return (q_g.t().to(torch.bfloat16) @ q_x.to(torch.bfloat16)).to(torch.int32)


globals().update(HONEST | {"weight_gradient": weight_gradient})
