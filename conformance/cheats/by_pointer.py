"""Remembers answers by the addresses and shapes of the arguments."""

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


def lie(operation: str, honest: Function) -> Function:
    known: dict[Any, Any] = {}

    def function(*arguments: Any, **named: Any) -> Any:
        key = str([(a.data_ptr(), a.shape) if isinstance(a, torch.Tensor) else a for a in arguments])
        if key not in known:
            # the arguments are kept, so that no other ones get their addresses
            known[key] = (honest(*arguments, **named), arguments)
        return each(known[key][0], torch.clone)

    return function


globals().update(every(lie, PURE))
