"""Multiplies in bfloat16, which is not exact beyond 2^8."""

from __future__ import annotations

import torch

from arbitor.conformance.cheats.lies import products_in

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_weight_gradient.py::test_one_token_gives_every_product",
    "says": ("gradient differs in",),
    "clause": "ARB-LIN-005",
}

globals().update(products_in(torch.bfloat16))
