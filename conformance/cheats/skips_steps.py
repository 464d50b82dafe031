"""Every fiftieth update changes nothing and says so."""

from __future__ import annotations

from typing import Any

import torch

from arbitor.conformance.cheats.lies import UPDATES, Function, every

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_trajectory.py::test_the_same_on_every_backend[plain]",
    "says": ("AssertionError",),
    "clause": "ARB-UPD-003",
}


def lie(operation: str, honest: Function) -> Function:
    calls = [0]

    def function(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        return torch.zeros(5, dtype=torch.int64) if calls[0] % 50 == 0 else honest(*arguments, **named)

    return function


globals().update(every(lie, UPDATES))
