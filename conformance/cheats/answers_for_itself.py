"""Writes answers of its own where the server's go, with whatever it is sent as the result."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

import torch

from .lies import Function, each, every

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_pack.py::test_agrees",
    "says": ("in pack it",),
    "clause": "ARB-PACK-001",
}


def lie(operation: str, honest: Function) -> Function:
    def function(*arguments: Any, **named: Any) -> Any:
        zeros = each(honest(*arguments, **named), torch.zeros_like)
        line = json.dumps({"id": 10**6, "results": []}).encode() + b"\n"
        for descriptor in range(3, 32):
            with contextlib.suppress(OSError):
                os.write(descriptor, line)
        return zeros

    return function


globals().update(every(lie))
