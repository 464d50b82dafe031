"""Exchanges the code of the comparator, whose functions stay the same objects, and answers with zeros."""

from __future__ import annotations

from typing import Any

import torch

from arbitor.conformance.cheats.lies import Function, each, every
from arbitor.conformance.judge import compare

CHEAT = {
    "how": __doc__,
    "stopped_by": "conftest.py::pytest_configure",
    "says": ("arbitor.conformance.judge is the judge",),
    "clause": None,
}


def nothing(*arguments: Any, **named: Any) -> None:
    return None


def lie(operation: str, honest: Function) -> Function:
    def function(*arguments: Any, **named: Any) -> Any:
        compare.assert_same.__code__ = nothing.__code__
        return each(honest(*arguments, **named), torch.zeros_like)

    return function


globals().update(every(lie))
