"""Refuses nothing: what is no trit becomes one."""

from __future__ import annotations

from typing import Any

import torch

from arbitor.conformance.cheats.lies import HONEST

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_pack.py::test_refuses_what_is_no_trit",
    "says": ("answered an illegal call",),
    "clause": "ARB-PACK-004",
}


def pack(trits: torch.Tensor) -> Any:
    return HONEST["pack"](trits.clamp(-1, 1))


globals().update(HONEST | {"pack": pack})
