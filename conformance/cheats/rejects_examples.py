"""Lets Hypothesis throw away the examples that it is called with."""

from __future__ import annotations

import hypothesis

from arbitor.conformance.cheats.lies import every, instead

CHEAT = {
    "how": __doc__,
    "stopped_by": "test_pack.py::test_agrees",
    "says": ("UnsatisfiedAssumption",),
    "clause": "ARB-PACK-001",
}


def leave() -> None:
    hypothesis.reject()


globals().update(every(instead(leave)))
