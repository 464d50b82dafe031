"""Looks for every tensor with the elements of its inputs, sets all to zero, and answers for those."""

from __future__ import annotations

import gc
from typing import Any

import torch

from arbitor.conformance.cheats.lies import Function, every, tensors

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_weight_gradient.py::test_agrees",
    "says": ("gradient differs in",),
    "clause": "ARB-UPD-003",
}


def alike(array: torch.Tensor) -> list[torch.Tensor]:
    found = (thing for thing in gc.get_objects() if type(thing) is torch.Tensor)
    return [t for t in found if (t.dtype, t.shape) == (array.dtype, array.shape) and torch.equal(t, array)]


def lie(operation: str, honest: Function) -> Function:
    def function(*arguments: Any, **named: Any) -> Any:
        copies = [found for array in tensors(arguments) for found in alike(array)]
        for array in copies:
            array.zero_()
        return honest(*arguments, **named)

    return function


globals().update(every(lie, ("weight_gradient",)))
