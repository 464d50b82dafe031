"""Answers with zeros of the right dtypes and shapes."""

from __future__ import annotations

from typing import Any

import torch

from arbitor.conformance.cheats.lies import Function, each, every

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_pack.py::test_agrees",
    "says": ("codes differs in",),
    "clause": "ARB-PACK-001",
}


def lie(operation: str, honest: Function) -> Function:
    def function(*arguments: Any, **named: Any) -> Any:
        return each(honest(*arguments, **named), torch.zeros_like)

    return function


globals().update(every(lie))
