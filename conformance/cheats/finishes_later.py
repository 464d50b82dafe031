"""Answers at once, and a thread writes the result a moment later."""

from __future__ import annotations

import threading
from typing import Any

import torch

from arbitor.conformance.cheats.lies import Function, every

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_pack.py::test_agrees",
    "says": ("codes differs in",),
    "or_says": ("a later call wrote to the result of an earlier one",),
    "clause": "ARB-PACK-001",
}


def lie(operation: str, honest: Function) -> Function:
    def function(*arguments: Any, **named: Any) -> Any:
        found = honest(*arguments, **named)
        promised = torch.zeros_like(found)
        threading.Timer(0.0005, lambda: promised.copy_(found)).start()
        return promised

    return function


globals().update(every(lie, ("pack",)))
