"""Is honest where pytest runs a test, and answers with zeros elsewhere."""

from __future__ import annotations

import os
from typing import Any

import torch

from arbitor.conformance.cheats.lies import Function, each, every

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_pack.py::test_agrees",
    "says": ("differs in",),
    "clause": "ARB-PACK-001",
}


def lie(operation: str, honest: Function) -> Function:
    def function(*arguments: Any, **named: Any) -> Any:
        found = honest(*arguments, **named)
        return found if "PYTEST_CURRENT_TEST" in os.environ else each(found, torch.zeros_like)

    return function


globals().update(every(lie))
