"""The runner of mutants on a checkout of two files: every outcome, and a control that undoes false kills."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from arbitor.judge.mutants.catalogue import Mutant
from arbitor.judge.mutants.command import Log
from arbitor.judge.mutants.run import BROKEN, KILLED, NOT_RUN, SURVIVED, TIMED_OUT, Lane, LaneRun, Result
from arbitor.judge.mutants.tree import Worker

CONFTEST = """
import pytest

def pytest_addoption(parser):
    parser.addoption("--examples")
    parser.addoption("--clause")

def pytest_configure(config):
    config.addinivalue_line("markers", "clause(*ids): of the specification")

def pytest_collection_modifyitems(config, items):
    asked = config.getoption("--clause")
    items[:] = [i for i in items if asked in (None, *i.get_closest_marker("clause").args)]
"""
TESTS = """
import pytest
from wrong import answer

@pytest.mark.clause("ARB-PACK-001")
def test_answer():
    assert answer() == 42

@pytest.mark.clause("ARB-PACK-002")
def test_that_always_fails():
    assert answer() == 43

@pytest.mark.clause("ARB-PACK-003")
def test_that_is_skipped():
    pytest.skip("not here")
"""
SOURCE = "def answer():\n    return 42\n"
EDITS = {
    "killed": ("return 42", "return 41", KILLED),
    "alive": ("return 42", "return 40 + 2", SURVIVED),
    "hangs": ("return 42", "while True: pass", TIMED_OUT),
    "dies": ("return 42", "import os; os._exit(0)", KILLED),
    "no-python": ("return 42", "return (", KILLED),  # the file of tests cannot be collected
}


def mutant(name: str, old: str, new: str, clause: str = "ARB-PACK-001", **more: str) -> Mutant:
    return Mutant(f"torch.{name}", "kind", "wrong.py", old, new, clause, "Wrong.", **more)


@pytest.fixture(scope="module")
def lane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LaneRun]:
    root = tmp_path_factory.mktemp("checkout")
    (root / "conformance").mkdir()
    (root / "wrong.py").write_text(SOURCE)
    (root / "conformance" / "conftest.py").write_text(CONFTEST)
    (root / "conformance" / "test_wrong.py").write_text(TESTS)
    (root / "pyproject.toml").write_text("[tool.pytest.ini_options]\npythonpath = ['.']\n")
    with LaneRun(Lane("torch on cpu", "cpu", ()), root, 1, seconds=8.0, packages=("torch", "pytest")) as run:
        yield run


@pytest.fixture(scope="module")
def results(lane: LaneRun) -> dict[str, Result]:
    chosen = [mutant(name, old, new) for name, (old, new, _) in EDITS.items()]
    chosen += [
        mutant("false", "return 42", "return 41", "ARB-PACK-002"),
        mutant("skipped", "return 42", "return 41", "ARB-PACK-003"),
        mutant("no-test", "return 42", "return 41", "ARB-PACK-004"),
        mutant("gpu", "return 42", "return 41", needs="cuda"),
        mutant("lost", "return 44", "return 41"),
    ]
    found: dict[str, Result] = {}
    lane.run(chosen, lambda done, result: found.update({done.id.partition(".")[2]: result}))
    return found


@pytest.mark.parametrize("name", EDITS)
def test_outcome(results: dict[str, Result], name: str) -> None:
    assert results[name].outcome == EDITS[name][2], results[name]


def test_a_kill_names_its_test(results: dict[str, Result]) -> None:
    assert results["killed"].test == "conformance/test_wrong.py::test_answer"
    assert results["killed"].message == "assert 41 == 42"


def test_what_does_not_run_is_no_kill(results: dict[str, Result]) -> None:
    assert [results[name].outcome for name in ("skipped", "no-test", "gpu")] == [NOT_RUN] * 3
    assert results["lost"].outcome == BROKEN


def test_the_control_finds_a_test_that_fails_anyway(lane: LaneRun, results: dict[str, Result]) -> None:
    killers = [results["killed"].test, results["false"].test]
    assert lane.control(killers) == ["conformance/test_wrong.py::test_that_always_fails"]
    assert lane.control(killers[:1]) == []
    assert lane.control(["conformance/test_wrong.py::test_that_is_gone"]) != []


def test_a_file_is_as_it_was_after_an_edit(lane: LaneRun, tmp_path: Path) -> None:
    worker = Worker(lane.root, tmp_path / "worker", {})
    with worker.edited("wrong.py", "other"):
        assert (worker.tree / "wrong.py").read_text() == "other"
    assert (worker.tree / "wrong.py").read_text() == SOURCE


@pytest.mark.parametrize("outcome", [KILLED, TIMED_OUT, SURVIVED, NOT_RUN, BROKEN])
def test_what_a_run_goes_on_with(tmp_path: Path, outcome: str) -> None:
    """Kills of the same edit: another outcome may be another one by now; another edit is another mutant."""
    one, other = mutant("one", "return 42", "return 41"), mutant("one", "return 42", "return 40")
    log = Log(tmp_path / "results.json", {"lanes": {}, "mutants": {}})
    assert not log.has(one, "torch on cpu")
    log.add(one, "torch on cpu", Result(outcome))
    assert log.has(one, "torch on cpu") == (outcome in (KILLED, TIMED_OUT))
    assert not log.has(one, "torch on cuda")
    assert not log.has(other, "torch on cpu")
