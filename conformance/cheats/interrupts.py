"""Raises what Ctrl-C raises."""

from __future__ import annotations

from arbitor.conformance.cheats.lies import every, instead

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_pack.py::test_agrees",
    "says": ("KeyboardInterrupt",),
    "clause": "ARB-PACK-001",
}


def leave() -> None:
    raise KeyboardInterrupt


globals().update(every(instead(leave)))
