"""Multiplies in float32, which is not exact beyond 2^24."""

from __future__ import annotations

import torch

from arbitor.conformance.cheats.lies import products_in

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_weight_gradient.py::test_largest_sums",
    "says": ("gradient differs in",),
    "clause": "ARB-LIN-005",
}

globals().update(products_in(torch.float32))
