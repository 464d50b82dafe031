"""Calls the second oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from arbitor.conformance import oracle
from arbitor.kernels.operations import OPERATIONS

CHEAT = {
    "how": __doc__,
    "stopped_by": "conftest.py::pytest_configure",
    "says": ("arbitor.conformance.oracle is the judge",),
    "clause": None,
}


ARRAYS = "lists"


def asking(operation: str) -> Callable[..., Any]:
    def function(*arguments: Any) -> Any:
        return getattr(oracle, operation)(*arguments)

    return function


globals().update({name: asking(name) for name in OPERATIONS})
