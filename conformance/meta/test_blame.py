"""Which clause a set of failed tests points at."""

from __future__ import annotations

import importlib

import pytest

from arbitor.judge.blame import COMMON, Ran, blamed
from arbitor.kernels.operations import OPERATIONS


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
    """It is not shown beside others, and decides where nothing else failed."""
    alike = [Ran(f"conformance/operations/test_buffers.py::small[{i}]", ["a1"], True) for i in range(9)]
    passed = Ran("t.py::narrow[1]", ["b1"], False)
    found = blamed([*alike, Ran("t.py::narrow[0]", ["b1"], True), passed])
    assert list(found) == ["b1"]
    assert blamed([*alike, passed]) == {"a1": {"failed": 9, "ran": 9}}


def test_nothing_failed() -> None:
    assert blamed([Ran("t.py::one", ["b1"], False)]) == {}
    assert blamed([Ran("t.py::one", [], True)]) == {}
    assert blamed([]) == {}


def test_ties_are_in_the_order_of_the_test() -> None:
    """Which begins with what the test is about; then in that of the ids."""
    assert list(blamed([Ran("t.py::one", ["b2", "b1", "b1"], True)])) == ["b2", "b1"]
    cases = [Ran("t.py::two", ["b2"], True), Ran("t.py::one", ["b1"], True)]
    assert list(blamed(cases)) == ["b1", "b2"]


# of every operation the clause that says what it is; its comparison with the judge names it first
OWN = {
    "pack": "ARB-PACK-001",
    "unpack": "ARB-PACK-001",
    "pack_dense": "ARB-PACK-005",
    "unpack_dense": "ARB-PACK-005",
    "philox": "ARB-RNG-001",
    "initialise": "ARB-INIT-001",
    "quantise_nearest": "ARB-QUANT-008",
    "quantise_nearest_both": "ARB-QUANT-011",
    "quantise_stochastic": "ARB-QUANT-009",
    "quantise_columns": "ARB-QUANT-010",
    "linear_forward": "ARB-LIN-001",
    "input_gradient": "ARB-LIN-002",
    "weight_gradient": "ARB-LIN-005",
    "ternary_update": "ARB-VOTE-001",
    "linear_update": "ARB-UPD-002",
    "embedding_forward": "ARB-EMB-001",
    "embedding_gradient": "ARB-EMB-003",
    "embedding_update": "ARB-EMB-004",
    "norm": "ARB-NORM-001",
    "norm_backward": "ARB-NORM-002",
    "dot": "ARB-DOT-001",
    "softmax": "ARB-SOFT-001",
    "softmax_backward": "ARB-SOFT-002",
    "sigmoid": "ARB-SOFT-003",
    "cross_entropy": "ARB-LOSS-001",
    "squared_error": "ARB-LOSS-003",
    "heads": "ARB-HEAD-001",
    "heads_backward": "ARB-HEAD-005",
    "attention": "ARB-ATT-001",
    "attention_backward": "ARB-ATT-005",
    "digest": "ARB-DIG-001",
}


def named_by(operation: str, test: str) -> list[str]:
    """The clauses of a test of that operation, in its order."""
    name = f"arbitor.conformance.operations.{OPERATIONS[operation].family}.test_{operation}"
    function = getattr(importlib.import_module(name), test)
    return [clause for mark in function.pytestmark if mark.name == "clause" for clause in mark.args]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_run_that_ends_at_its_first_failure_shows_the_own_clause_first(operation: str) -> None:
    """With -x one test has failed, and all of its clauses have as many votes."""
    agrees = Ran(f"operations/test_{operation}.py::test_agrees", named_by(operation, "test_agrees"), True)
    found = list(blamed([agrees]))
    assert found[0] == OWN[operation]
    assert found[-1] == "ARB-UPD-003"  # that of every operation


def test_what_every_operation_names_comes_behind_its_own() -> None:
    """However likely it is: a refusal that fails names three clauses of all operations, and one of this."""
    mine = "test_ternary_update.py"
    cases = [
        Ran(f"{mine}::test_refuses", ["ARB-LIN-006"], True),
        Ran(f"{mine}::test_agrees", ["ARB-VOTE-001", "ARB-FIRE-001"], True),
        Ran(f"{mine}::test_other", ["ARB-FIRE-001"], False),
    ]
    assert list(blamed(cases)) == ["ARB-VOTE-001", "ARB-FIRE-001", "ARB-LIN-006"]


def test_the_common_clauses_are_what_every_operation_names() -> None:
    found = [
        {
            clause
            for test in ("test_agrees", "test_refuses", "test_repeats")
            for clause in named_by(name, test)
        }
        for name in OPERATIONS
    ]
    assert set.intersection(*found) == COMMON


def test_clauses_of_the_operation_come_before_what_is_built_on_it() -> None:
    cases = [
        Ran("runtime/test_runtime.py::one", ["ARB-RUN-001"], True),
        Ran("update/test_linear_update.py::one", ["ARB-UPD-002"], True),
        Ran("update/test_linear_update.py::two", ["ARB-UPD-002"], False),
    ]
    assert list(blamed(cases)) == ["ARB-UPD-002", "ARB-RUN-001"]
