"""Finds the target among its callers and makes itself its judge."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import torch

from arbitor.conformance.cheats.lies import Function, each, every
from arbitor.conformance.judge.target import Target

CHEAT = {
    "how": __doc__,
    "stopped_by": "conftest.py::pytest_configure",
    "says": ("arbitor.conformance.judge is the judge",),
    "clause": None,
}


def lie(operation: str, honest: Function) -> Function:
    def function(*arguments: Any, **named: Any) -> Any:
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            caller = frame.f_locals.get("self")
            if isinstance(caller, Target):
                caller.judge = caller.backend
            frame = frame.f_back
        return each(honest(*arguments, **named), torch.zeros_like)

    return function


globals().update(every(lie))
