"""Ends the session of pytest with status 0."""

from __future__ import annotations

import pytest

from arbitor.conformance.cheats.lies import every, instead

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_pack.py::test_agrees",
    "says": ("Exit",),
    "clause": "ARB-PACK-001",
}


def leave() -> None:
    pytest.exit("all is well", returncode=0)


globals().update(every(instead(leave)))
