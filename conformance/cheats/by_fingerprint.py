"""Remembers answers by the shapes, the first and the last elements of the arguments."""

from __future__ import annotations

from typing import Any

import torch

from arbitor.conformance.cheats.lies import PURE, Function, each, every

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_pointers.py::test_other_elements_in_the_same_memory",
    "says": ("differs in",),
    "clause": "ARB-UPD-003",
}


def print_of(array: torch.Tensor) -> tuple[Any, ...]:
    flat = array.flatten()
    return array.shape, flat[0].item(), flat[-1].item()


def lie(operation: str, honest: Function) -> Function:
    known: dict[str, Any] = {}

    def function(*arguments: Any, **named: Any) -> Any:
        key = str([print_of(a) if isinstance(a, torch.Tensor) else a for a in arguments])
        if key not in known:
            known[key] = honest(*arguments, **named)
        return each(known[key], torch.clone)

    return function


globals().update(every(lie, PURE))
