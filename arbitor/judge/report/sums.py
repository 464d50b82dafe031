"""Verdicts of tests, from the least to the worst, and what a record sums up about them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

PASSED, NOT_RUN, WAIVED, FAILED, CRASHED = VERDICTS = ("passed", "not run", "waived", "failed", "crashed")
KINDS = ("passed", "failed", "crashed", "not_run", "waived")  # the names of their counts
FINISHED, INTERRUPTED = "finished", "interrupted"


def counts_of(tests: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many tests had which verdict."""
    found = Counter(entry["verdict"].replace(" ", "_") for entry in tests)
    return {kind: found[kind] for kind in KINDS}


def ran(counts: Mapping[str, int]) -> int:
    """How many tests ran, those included that crashed."""
    return sum(counts.values()) - counts["not_run"]


def reasons_of(tests: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many tests did not run for which reason."""
    found = Counter(entry["reason"] for entry in tests if entry["verdict"] == NOT_RUN)
    return dict(sorted(found.items()))


def selection_digest(tests: Iterable[str]) -> str:
    """SHA-256 of the sorted ids of tests, joined by newlines."""
    return hashlib.sha256("\n".join(sorted(tests)).encode()).hexdigest()
