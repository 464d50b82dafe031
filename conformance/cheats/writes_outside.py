"""Writes a byte behind its result."""

from __future__ import annotations

from typing import Any

import torch

from arbitor.conformance.cheats.lies import Function, every

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_buffers.py::test_small[pack-aligned]",
    "says": ("1 bytes of the red zone behind it were written",),
    "clause": "ARB-PACK-002",
}


def lie(operation: str, honest: Function) -> Function:
    def function(*arguments: Any, **named: Any) -> Any:
        found = honest(*arguments, **named)
        mine = torch.empty(found.shape, dtype=found.dtype, device=found.device).copy_(found)
        memory = torch.empty(0, dtype=torch.uint8, device=found.device).set_(mine.untyped_storage())
        end = mine.storage_offset() + mine.numel()
        memory[end : end + 1] = 7
        return mine

    return function


globals().update(every(lie, ("pack",)))
