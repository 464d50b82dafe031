"""How much a run compared: a test that passed says little if it looked at nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator

import pytest

ANSWERS, ELEMENTS, REFUSALS = "answers compared", "elements compared", "illegal calls refused"
TOTAL = "total"  # name of the property that report/collected.py sums

_counts: Counter[str] = Counter()


def count(what: str, number: int = 1) -> None:
    """Take note of that many."""
    _counts[what] += number


class Counting:
    """The plugin: what was counted during a test is a property of its report."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        _counts.clear()
        try:
            yield
        finally:
            item.user_properties += [(TOTAL, [what, number]) for what, number in _counts.items()]
