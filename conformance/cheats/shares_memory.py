"""Writes its result over its input."""

from __future__ import annotations

from typing import Any

import torch

from arbitor.conformance.cheats.lies import Function, every

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_pack.py::test_agrees",
    "says": ("codes shares memory with an argument",),
    "clause": "ARB-UPD-003",
}


def lie(operation: str, honest: Function) -> Function:
    def function(*arguments: Any, **named: Any) -> Any:
        found = honest(*arguments, **named)
        return arguments[0].view(torch.uint8)[:, : found.shape[1]].copy_(found)

    return function


globals().update(every(lie, ("pack",)))
