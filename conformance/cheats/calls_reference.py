"""Calls the reference by the name in its package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from arbitor import reference
from arbitor.kernels.operations import OPERATIONS

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_pack.py::test_agrees",
    "says": ("pack called the judge (arbitor.reference.packing.pack.pack) for its answer",),
    "clause": "ARB-PACK-001",
}


ARRAYS = "numpy"


def asking(operation: str) -> Callable[..., Any]:
    def function(*arguments: Any) -> Any:
        return getattr(reference, operation)(*arguments)

    return function


globals().update({name: asking(name) for name in OPERATIONS})
