"""Exits from Python with status 0."""

from __future__ import annotations

import sys

from arbitor.conformance.cheats.lies import every, instead

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_pack.py::test_agrees",
    "says": ("SystemExit",),
    "clause": "ARB-PACK-001",
}


def leave() -> None:
    sys.exit(0)


globals().update(every(instead(leave)))
