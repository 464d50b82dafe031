"""Answers with fresh memory, in which the judge may have left its result."""

from __future__ import annotations

from typing import Any

import torch

from arbitor.conformance.cheats.lies import Function, each, every

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_buffers.py::test_small[pack-aligned]",
    "says": ("codes differs in",),
    "clause": "ARB-PACK-002",
}


def lie(operation: str, honest: Function) -> Function:
    def function(*arguments: Any, **named: Any) -> Any:
        return each(honest(*arguments, **named), torch.empty_like)

    return function


globals().update(every(lie))
