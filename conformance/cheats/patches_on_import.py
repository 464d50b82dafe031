"""Exchanges what compares when its module is imported, before the first test, and answers with zeros."""

from __future__ import annotations

from typing import Any

import numpy
import torch

from arbitor.conformance.cheats.lies import Function, each, every
from arbitor.conformance.judge import compare

CHEAT = {
    "how": __doc__,
    "stopped_by": "conftest.py::pytest_configure",
    "says": ("arbitor.conformance.judge is the judge",),
    "clause": None,
}


def same(tensor: torch.Tensor) -> Any:
    return numpy.zeros(1, numpy.uint8)


compare.bits = same


def lie(operation: str, honest: Function) -> Function:
    def function(*arguments: Any, **named: Any) -> Any:
        return each(honest(*arguments, **named), torch.zeros_like)

    return function


globals().update(every(lie))
