"""Flips the last bit in half of its answers, by chance."""

from __future__ import annotations

import os
from typing import Any

from arbitor.conformance.cheats.lies import Function, every

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_pack.py::test_agrees",
    "says": ("differs in 1 of",),
    "clause": "ARB-UPD-003",
}


def lie(operation: str, honest: Function) -> Function:
    def function(*arguments: Any, **named: Any) -> Any:
        found = honest(*arguments, **named)
        found.view(-1)[-1] ^= os.urandom(1)[0] & 1
        return found

    return function


globals().update(every(lie, ("pack",)))
