"""Looks among all tensors of the process for one that could be the expected result, else zeros."""

from __future__ import annotations

import gc
from typing import Any

import torch

from arbitor.conformance.cheats.lies import Function, every

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_pack.py::test_agrees",
    "says": ("codes differs in",),
    "clause": "ARB-PACK-001",
}


def lie(operation: str, honest: Function) -> Function:
    def function(*arguments: Any, **named: Any) -> Any:
        found = torch.zeros_like(honest(*arguments, **named))
        for thing in gc.get_objects():
            if type(thing) is not torch.Tensor or thing is found or thing.dtype != found.dtype:
                continue
            if thing.shape == found.shape and thing.any():
                return thing.clone()
        return found

    return function


globals().update(every(lie, ("pack",)))
