"""Looks for the expected result in the variables of its callers, else zeros."""

from __future__ import annotations

import sys
from types import FrameType
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
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            expected = frame.f_locals.get("expected")
            if isinstance(expected, dict) and "codes" in expected:
                return expected["codes"].clone()
            frame = frame.f_back
        return torch.zeros_like(honest(*arguments, **named))

    return function


globals().update(every(lie, ("pack",)))
