"""Answers with a tensor of a class of its own, which answers every comparison itself."""

from __future__ import annotations

from typing import Any

import torch

from arbitor.conformance.cheats.lies import Function, each, every

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_pack.py::test_agrees",
    "says": ("is Agreeable, expected a plain torch.Tensor",),
    "clause": "ARB-PACK-001",
}


class Agreeable(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.equal, torch.Tensor.equal):
            return True
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))


def lie(operation: str, honest: Function) -> Function:
    def function(*arguments: Any, **named: Any) -> Any:
        return each(honest(*arguments, **named), lambda found: torch.zeros_like(found).as_subclass(Agreeable))

    return function


globals().update(every(lie))
