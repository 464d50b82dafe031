"""Multiplies in float32, which is not exact beyond 2^24."""

from __future__ import annotations

import torch

from arbitor.conformance.cheats.lies import HONEST

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_weight_gradient.py::test_largest_sums",
    "says": ("gradient differs in",),
    "clause": "ARB-LIN-005",
}


def weight_gradient(q_g: torch.Tensor, q_x: torch.Tensor) -> torch.Tensor:
    return (q_g.t().to(torch.float32) @ q_x.to(torch.float32)).to(torch.int32)


globals().update(HONEST | {"weight_gradient": weight_gradient})
