"""Writes every answer to the same memory."""

from __future__ import annotations

from typing import Any

import torch

from arbitor.conformance.cheats.lies import Function, every

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_pointers.py::test_other_elements_in_the_same_memory",
    "says": ("a later call wrote to the result of an earlier one",),
    "clause": "ARB-UPD-003",
}


def lie(operation: str, honest: Function) -> Function:
    kept: dict[torch.Size, torch.Tensor] = {}

    def function(*arguments: Any, **named: Any) -> Any:
        found = honest(*arguments, **named)
        return kept.setdefault(found.shape, found).copy_(found)

    return function


globals().update(every(lie, ("pack",)))
