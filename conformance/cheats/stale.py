"""Answers with the result of the call before, in the shape that is asked for."""

from __future__ import annotations

from typing import Any

import torch

from arbitor.conformance.cheats.lies import Function, every

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_weight_gradient.py::test_agrees",
    "says": ("gradient differs in",),
    "clause": "ARB-UPD-003",
}


def lie(operation: str, honest: Function) -> Function:
    before: list[torch.Tensor] = []

    def answer(found: torch.Tensor) -> torch.Tensor:
        before.append(found.clone())
        kept = before[0] if len(before) == 1 else before.pop(0)
        return torch.resize_as_(kept.clone(), found)

    def function(*arguments: Any, **named: Any) -> Any:
        return answer(honest(*arguments, **named))

    return function


globals().update(every(lie, ("weight_gradient",)))
