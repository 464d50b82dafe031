"""Calls the reference by the name in its package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from arbitor import reference
from arbitor.kernels.operations import OPERATIONS

CHEAT = {
    "how": __doc__,
    "stopped_by": "conftest.py::pytest_configure",
    "says": ("arbitor.reference is the judge",),
    "clause": None,
}


ARRAYS = "numpy"


def asking(operation: str) -> Callable[..., Any]:
    def function(*arguments: Any) -> Any:
        return getattr(reference, operation)(*arguments)

    return function


globals().update({name: asking(name) for name in OPERATIONS})
