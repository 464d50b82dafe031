"""What a shell, a notebook or Python's own switches do to `arbitor verify`: nothing in silence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from arbitor.cli import main
from arbitor.conformance.tools.commands import FEW, refused
from arbitor.conformance.tools.planted import planted
from arbitor.judge import environment, verify
from arbitor.judge.report.check import verdict
from arbitor.judge.suite import find_suite

QUICK = ["-n", "1", "-p", "no:cacheprovider", "--tb=no", "-k", "agrees"]
WRONG = """
def weight_gradient(q_g, q_x):
    return eager.weight_gradient(q_g, q_x) + 1
"""
# its import brings along what pytest knows as one of its plugins
PLUGIN = "import hypothesis, hypothesis.strategies\n"


def arbitor(
    folder: Path,
    *words: str,
    first: str = "",
    python: tuple[str, ...] = (),
    shell: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.CompletedProcess[str]:
    """The command in a Python that runs `first` before it, with those variables of the shell."""
    root = str(find_suite().parent)
    start = (
        f"{first}\nimport sys; sys.path.insert(0, {root!r})\nfrom arbitor.cli import main\nsys.exit(main())"
    )
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, *python, "-c", start, *words],
        cwd=folder, env=plain | dict(shell), capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def record_of(folder: Path) -> dict[str, Any]:
    """The record of the run, which `report check` takes."""
    data = (folder / "r.json").read_bytes()
    verdict(data)
    found: dict[str, Any] = json.loads(data)
    return found


def test_words_of_the_shell_leave_nothing_out(tmp_path: Path) -> None:
    """A wrong backend fails, whatever PYTEST_ADDOPTS selects, and line and record say what was left out."""
    shell = {
        "PYTEST_ADDOPTS": '-k "philox and not weight" -n 0',
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_PLUGINS": "no_such_plugin",
        "PYTEST_TIMEOUT": "0.001",
    }
    words = ["verify", "--backend", planted(tmp_path, WRONG), "--report", "r.json"]
    found = arbitor(tmp_path, *words, "--only", "weight_gradient", "--", *QUICK, shell=shell)
    assert found.returncode == 1, found.stdout + found.stderr
    said = [line for line in found.stdout.splitlines() if line.startswith("left out of this run: ")]
    assert said == [environment.said(shell)]
    assert "PYTEST_ADDOPTS" in said[0]
    record = record_of(tmp_path)
    assert record["run"]["left_out"] == shell
    assert record["run"]["arguments"] == ["--only", "weight_gradient", *QUICK]
    assert record["counts"]["failed"] > 0
    assert {Path(entry["test"].partition("::")[0]).name for entry in record["tests"]} == {
        "test_weight_gradient.py"
    }


def test_a_plugin_of_pytest_that_is_imported_already(tmp_path: Path) -> None:
    """By a notebook, or by the backend; and a backend that is none of ours has the kernels' part unasked."""
    backend = planted(tmp_path, PLUGIN)
    words = ["verify", "--backend", backend, "--report", "r.json", "--", "-n", "1", *FEW]
    found = arbitor(tmp_path, *words, "-k", "test_pack and repeats", first="import hypothesis")
    assert found.returncode == 0, found.stdout + found.stderr
    assert "the backend is none of ours: only what kernels decide is judged" in found.stdout
    record = record_of(tmp_path)
    assert record["run"]["arguments"][0] == "--kernels"
    assert "left_out" not in record["run"]
    assert record["counts"]["passed"] > 0


def test_optimised_python_does_not_judge(tmp_path: Path) -> None:
    """Asserts are what its tests fail by."""
    words = ("verify", "--backend", "torch")
    by_switch = arbitor(tmp_path, *words, python=("-O",))
    for found in (by_switch, arbitor(tmp_path, *words, shell={"PYTHONOPTIMIZE": "1"})):
        assert (found.returncode, found.stdout) == (2, "")
        assert found.stderr == f"error: {SENTENCE}\n"
    assert list(tmp_path.iterdir()) == []


SENTENCE = "python -O (PYTHONOPTIMIZE) leaves out the assertions that tests fail by: run arbitor without it"


@pytest.mark.parametrize("words", ["verify", "fuzz --minutes 0.001", "vectors check"])
def test_nothing_else_judges_then(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environment, "sys", SimpleNamespace(flags=SimpleNamespace(optimize=2)))
    refused(main([*words.split(), "--backend", "torch"]), SENTENCE, capsys)


def test_a_pytest_that_cannot_start_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Warnings are errors here, also those before there is a session."""

    def fails(words: list[str], plugins: list[object]) -> int:
        raise pytest.PytestConfigWarning("of\nsome kind")

    monkeypatch.setattr(pytest, "main", fails)
    assert verify._judged(["x"], []) == 3
    assert capsys.readouterr().err == "error: pytest cannot start: PytestConfigWarning: of some kind\n"


def test_the_environment_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the run, also one that ends badly; what is not pytest's is not touched."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-x")
    monkeypatch.setenv("PY_TEST", "y")
    before = dict(os.environ)
    context = environment.without_pytests()
    left_out = context.__enter__()
    assert left_out["PYTEST_ADDOPTS"] == "-x"
    assert {name for name in before if name not in os.environ} == set(left_out)
    assert context.__exit__(KeyError, KeyError(), None) is False
    assert dict(os.environ) == before


def test_what_is_random_is_random_in_a_ci(tmp_path: Path) -> None:
    """Hypothesis takes a profile of its own where CI is set, of which ours must not be made."""
    look = "from hypothesis import settings; from arbitor.conformance import conftest"
    shell = os.environ | {"CI": "1"}
    words = [sys.executable, "-c", f"{look}; print(settings.get_profile('deep').derandomize)"]
    ended = subprocess.run(words, env=shell, capture_output=True, text=True, check=True, timeout=300)
    assert ended.stdout == "False\n"
