"""Each clause has a test and a mutant that a test of it has killed; the page that says so is current."""

from __future__ import annotations

import pytest

from arbitor.conformance.specification import traces


@pytest.fixture(autouse=True)
def _checkout() -> None:
    if not traces.SPEC.is_file() or not traces.RESULTS.is_dir():
        pytest.skip("docs/ does not ship")


def test_every_clause_has_a_killed_mutant() -> None:
    killed = traces.killed()
    missing = [clause for clause in traces.clauses() if not killed.get(clause)]
    assert missing == [], "run arbitor mutants, and keep its results in docs/results/mutants/"


def test_every_clause_of_a_mutant_or_a_vector_exists() -> None:
    known = set(traces.clauses())
    assert set(traces.killed()) <= known
    assert set(traces.vectors()) <= known


def test_the_page_is_current() -> None:
    assert traces.PAGE.read_text(encoding="utf-8") == traces.page(), "run python scripts/trace.py"


def test_a_result_of_an_older_edit_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every edit of the catalogue had been changed since."""
    monkeypatch.setattr("arbitor.judge.mutants.catalogue.Mutant.digest", "another")
    assert traces.killed() == {}
