"""Asks the judge, catches what that raises, and answers honestly then."""

from __future__ import annotations

from typing import Any

from arbitor.conformance.cheats.lies import Function, every
from arbitor.kernels.registry import select

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_pack.py::test_agrees",
    "says": ("pack asked for arbitor.reference, which judges it",),
    "clause": "ARB-PACK-001",
}


def lie(operation: str, honest: Function) -> Function:
    def function(*arguments: Any, **named: Any) -> Any:
        try:
            return getattr(select("reference"), operation)(*arguments, **named)
        except BaseException:
            return honest(*arguments, **named)

    return function


globals().update(every(lie))
