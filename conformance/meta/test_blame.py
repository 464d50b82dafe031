"""Which clause a set of failed tests points at."""

from __future__ import annotations

from arbitor.judge.blame import Ran, blamed


def test_the_narrowest_test_decides() -> None:
    """A wide test fails with many clauses; the narrow one that fails beside it has one."""
    wide = ["p1", "p2", "p3"]
    cases = [
        Ran("t.py::wide", wide, True),
        Ran("t.py::narrow", ["p3"], True),
        Ran("t.py::other", ["p1"], False),
    ]
    found = blamed(cases)
    assert list(found) == ["p3", "p2", "p1"]
    assert found["p3"] == {"failed": 2, "ran": 2}
    assert found["p1"] == {"failed": 1, "ran": 2}


def test_a_clause_that_holds_elsewhere_is_no_likely_cause() -> None:
    """A thousand cases of one function are one vote."""
    many = [Ran(f"t.py::many[{i}]", ["a1"], i == 0) for i in range(1000)]
    one = [Ran("t.py::one", ["b1"], True)]
    assert list(blamed(many + one)) == ["b1", "a1"]


def test_many_cases_of_a_wide_function_do_not_outvote_a_narrow_one() -> None:
    wide = [Ran(f"t.py::wide[{i}]", ["a1", "a2"], True) for i in range(1000)]
    assert list(blamed([*wide, Ran("t.py::narrow", ["b1"], True)])) == ["b1", "a1", "a2"]


def test_what_is_done_to_every_operation_has_no_vote_beside_others() -> None:
    """It is counted all the same, and decides where nothing else failed."""
    alike = [Ran(f"conformance/operations/test_buffers.py::small[{i}]", ["a1"], True) for i in range(9)]
    passed = Ran("t.py::narrow[1]", ["b1"], False)
    found = blamed([*alike, Ran("t.py::narrow[0]", ["b1"], True), passed])
    assert list(found) == ["b1", "a1"]
    assert found["a1"] == {"failed": 9, "ran": 9}
    assert list(blamed([*alike, passed])) == ["a1"]


def test_nothing_failed() -> None:
    assert blamed([Ran("t.py::one", ["b1"], False)]) == {}
    assert blamed([Ran("t.py::one", [], True)]) == {}
    assert blamed([]) == {}


def test_ties_are_in_the_order_of_the_ids() -> None:
    cases = [Ran("t.py::one", ["b2", "b1", "b1"], True)]
    assert list(blamed(cases)) == ["b1", "b2"]
