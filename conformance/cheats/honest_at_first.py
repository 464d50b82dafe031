"""Is honest for its first 60 calls of an operation, and flips a bit from then on."""

from __future__ import annotations

from typing import Any

from arbitor.conformance.cheats.lies import Function, every

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_pack.py::test_agrees",
    "says": ("codes differs in 1 of",),
    "clause": "ARB-PACK-001",
}


WARM = 60


def lie(operation: str, honest: Function) -> Function:
    calls = [0]

    def function(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        found = honest(*arguments, **named)
        if calls[0] > WARM:
            found.view(-1)[-1] ^= 1
        return found

    return function


globals().update(every(lie, ("pack",)))
