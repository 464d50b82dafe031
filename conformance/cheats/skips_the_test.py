"""Skips the test that calls it."""

from __future__ import annotations

import pytest

from arbitor.conformance.cheats.lies import every, instead

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_pack.py::test_agrees",
    "says": ("Skipped: not today",),
    "clause": "ARB-PACK-001",
}


def leave() -> None:
    pytest.skip("not today")


globals().update(every(instead(leave)))
