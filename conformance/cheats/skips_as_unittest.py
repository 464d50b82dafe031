"""Skips the test that calls it as unittest does, by an Exception."""

from __future__ import annotations

import unittest

from arbitor.conformance.cheats.lies import every, instead

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_pack.py::test_agrees",
    "says": ("SkipTest: not today",),
    "clause": "ARB-PACK-001",
}


def leave() -> None:
    raise unittest.SkipTest("not today")


globals().update(every(instead(leave)))
