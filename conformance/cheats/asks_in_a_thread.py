"""Asks the judge in a thread of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
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
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(getattr(select("reference"), operation), *arguments, **named).result()

    return function


globals().update(every(lie))
