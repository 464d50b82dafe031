"""Computes on a stream that nobody waits for (CUDA)."""

from __future__ import annotations

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


CYCLES = 50_000_000  # some tens of milliseconds


def lie(operation: str, honest: Function) -> Function:
    def function(*arguments: Any, **named: Any) -> Any:
        found = honest(*arguments, **named)
        torch.cuda.synchronize()
        promised = torch.zeros_like(found)
        torch.cuda.synchronize()
        with torch.cuda.stream(torch.cuda.Stream()):
            torch.cuda._sleep(CYCLES)
            promised.copy_(found)
        return promised

    return function


globals().update(every(lie, ("pack",)))
