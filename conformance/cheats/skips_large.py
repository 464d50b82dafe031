"""Leaves a state of more than 10,000 trits as it is."""

from __future__ import annotations

from typing import Any

import torch

from arbitor.conformance.cheats.lies import UPDATES, Function, every
from arbitor.kernels.operations import OPERATIONS

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_buffers.py::test_around_tiles[linear_update-aligned]",
    "says": ("differs in",),
    "clause": "ARB-UPD-003",
}


LARGE = 10_000


def lie(operation: str, honest: Function) -> Function:
    def function(*arguments: Any, **named: Any) -> Any:
        state = arguments[OPERATIONS[operation].arguments.index("t_accum")]
        return torch.zeros(5, dtype=torch.int64) if state.numel() > LARGE else honest(*arguments, **named)

    return function


globals().update(every(lie, UPDATES))
