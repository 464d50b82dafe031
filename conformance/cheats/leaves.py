"""Ends the process at once with status 0, before any report is written."""

from __future__ import annotations

import os

from arbitor.conformance.cheats.lies import every, instead

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_pack.py::test_agrees",
    "says": ("in pack it ended with status 0",),
    "clause": "ARB-PACK-001",
}


def leave() -> None:
    os._exit(0)


globals().update(every(instead(leave), ("pack",)))
