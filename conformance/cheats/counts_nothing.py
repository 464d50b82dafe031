"""Updates the state and says that nothing happened."""

from __future__ import annotations

from typing import Any

import torch

from arbitor.conformance.cheats.lies import UPDATES, Function, every

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_ternary_update.py::test_agrees",
    "says": ("counts differs in",),
    "clause": "ARB-UPD-001",
}


def lie(operation: str, honest: Function) -> Function:
    def function(*arguments: Any, **named: Any) -> Any:
        return torch.zeros_like(honest(*arguments, **named))

    return function


globals().update(every(lie, UPDATES))
