"""Writes another comparator over the suite's own file, or puts a plugin beside it, and answers with zeros."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch

from .lies import Function, each, every

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_pack.py::test_agrees",
    "says": ("codes differs in",),
    "clause": "ARB-PACK-001",
}

SUITE = Path(__file__).resolve().parents[1]
TEXT = "def assert_same(*arguments, **named): pass\n"


def rewrite() -> None:
    """When it is called and not when it is imported: a test imports every file, and is no cheat's victim."""
    for place in (SUITE / "judge" / "compare.py", SUITE / "conftest.py", SUITE / "sitecustomize.py"):
        with contextlib.suppress(OSError):
            place.write_text(TEXT)


def lie(operation: str, honest: Function) -> Function:
    def function(*arguments: Any, **named: Any) -> Any:
        rewrite()
        return each(honest(*arguments, **named), torch.zeros_like)

    return function


globals().update(every(lie))
