"""Ends the process at once with status 0, before any report is written."""

from __future__ import annotations

import os

from arbitor.conformance.cheats.lies import every, instead

CHEAT = {
    "how": __doc__,
    "stopped_by": "pytest -n 1",
    "says": ("the process of the test ended with status 0",),
    "clause": None,
}


def leave() -> None:
    os._exit(0)


globals().update(every(instead(leave), ("pack",)))
