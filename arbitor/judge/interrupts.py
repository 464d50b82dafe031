"""Ctrl-C while something is imported: the process leaves at once, with the line that a command ends with.

A KeyboardInterrupt in the middle of an import is swallowed by some packages, and ends others in an abort:
torch calls Python from C++ while it is imported. Nothing has begun by then that would have to be finished.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STATUS = 130  # what shells report for SIGINT
LINE = "interrupted"
_IMPORT = "<frozen importlib._bootstrap>"


@contextmanager
def imports_left_at_once() -> Iterator[None]:
    """SIGINT within an import ends the process; elsewhere it is the usual KeyboardInterrupt."""
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not usual or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, _left)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _left(number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT:
            os.write(2, f"{LINE}\n".encode())
            os._exit(STATUS)
        frame = frame.f_back
    raise KeyboardInterrupt
