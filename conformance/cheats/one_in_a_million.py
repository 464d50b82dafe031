"""Flips one bit in one of a million elements."""

from __future__ import annotations

from typing import Any

import torch

from arbitor.conformance.cheats.lies import Function, each, every

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_large.py::test_a_million_elements",
    "says": ("differs in 1 of",),
    "clause": "ARB-UPD-003",
}


MILLION = 1_000_000


def lie(operation: str, honest: Function) -> Function:
    seen = [0]

    def flip(array: torch.Tensor) -> torch.Tensor:
        before, seen[0] = seen[0], seen[0] + array.numel()
        if seen[0] // MILLION > before // MILLION:
            place = MILLION * (seen[0] // MILLION) - before - 1
            array.view(torch.int32 if array.dtype == torch.float32 else array.dtype).view(-1)[place] ^= 1
        return array

    def function(*arguments: Any, **named: Any) -> Any:
        return each(honest(*arguments, **named), flip)

    return function


globals().update(every(lie))
