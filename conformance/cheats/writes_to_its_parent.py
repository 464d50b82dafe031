"""Looks for the expected result in the memory of processes above it, attaches to them, kills its keeper."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
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

ATTACH = 16  # of ptrace


def parents() -> list[int]:
    found = [os.getppid()]
    while found[-1] > 1:
        found.append(int(Path(f"/proc/{found[-1]}/stat").read_text().rpartition(")")[2].split()[1]))
    return found[:-1]


def lie(operation: str, honest: Function) -> Function:
    def function(*arguments: Any, **named: Any) -> Any:
        for process in parents():
            ctypes.CDLL(None).ptrace(ATTACH, process, None, None)
            with contextlib.suppress(OSError), open(f"/proc/{process}/mem", "r+b") as memory:
                memory.write(b"\0")
        with contextlib.suppress(OSError):
            os.kill(os.getppid(), signal.SIGKILL)  # its keeper
        return each(honest(*arguments, **named), torch.zeros_like)

    return function


globals().update(every(lie))
