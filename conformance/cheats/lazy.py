"""Answers with a tensor that is computed when somebody looks at it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from arbitor.conformance.cheats.lies import Function, every

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_pack.py::test_agrees",
    "says": ("is Lazy, expected a plain torch.Tensor",),
    "clause": "ARB-PACK-001",
}


class Lazy(torch.Tensor):
    work: Callable[[], torch.Tensor]

    def __new__(cls, work: Callable[[], torch.Tensor]) -> Lazy:
        lazy = torch.empty(0).as_subclass(cls)
        lazy.work = work
        return lazy

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            return func(*(a.work() if isinstance(a, cls) else a for a in args), **(kwargs or {}))


def lie(operation: str, honest: Function) -> Function:
    def function(*arguments: Any, **named: Any) -> Any:
        return Lazy(lambda: honest(*arguments, **named))

    return function


globals().update(every(lie, ("pack",)))
