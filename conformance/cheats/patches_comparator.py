"""Exchanges what compares, in the comparator and below it, and answers with zeros."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy
import torch

from arbitor.conformance.cheats.lies import Function, each, every
from arbitor.conformance.judge import compare, target

CHEAT = {
    "how": __doc__,
    "stopped_by": "conftest.py::pytest_configure",
    "says": ("arbitor.conformance.judge is the judge",),
    "clause": None,
}


def nothing(*arguments: Any, **named: Any) -> None:
    return None


def yes(*arguments: Any, **named: Any) -> bool:
    return True


INSTEAD: tuple[tuple[Any, str, Function], ...] = (
    (compare, "difference", nothing),
    (target, "assert_same", nothing),
    (target.Target, "check", nothing),
    (numpy, "array_equal", yes),
    (torch, "equal", yes),
    (hashlib, "sha256", nothing),
)


def lie(operation: str, honest: Function) -> Function:
    def function(*arguments: Any, **named: Any) -> Any:
        for owner, name, value in INSTEAD:
            setattr(owner, name, value)
        return each(honest(*arguments, **named), torch.zeros_like)

    return function


globals().update(every(lie))
