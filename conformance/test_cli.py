"""`arbitor`: the doctor names every backend, and a verification leaves a report that adds up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from arbitor import __version__, doctor
from arbitor.blame import CLAUSES
from arbitor.cli import main
from arbitor.kernels import registry
from arbitor.provenance import package_version, source
from arbitor.seal import sealed
from arbitor.verify import Collected, find_suite

SELECTION = ["-k", "test_pack and test_repeats", "-p", "no:xdist"]


def run(*words: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: pytest does not run inside pytest."""
    root = str(find_suite().parent)  # of a checkout; harmless for an installed package
    start = f"import sys; sys.path.insert(0, {root!r}); from arbitor.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", start, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"arbitor {__version__}\n"


@pytest.mark.parametrize(
    "words", [[], ["cure"], ["verify"], ["verify", "--backend", "torch", "--device", "tpu"]]
)
def test_bad_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "usage: arbitor" in capsys.readouterr().err


@pytest.mark.clause("ARB-RUN-011")
def test_doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every backend with a verdict, the choice with its reason, settings; all of it without a CUDA device."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("ARB_TERNARY_BACKEND", "reference")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for name in [*registry.BACKENDS, *doctor.PACKAGES, "no device"]:
        assert name in shown
    assert "taken on cpu: reference (ARB_TERNARY_BACKEND=reference)" in shown
    assert "without ARB_TERNARY_BACKEND: torch (auto" in shown
    assert "linear_forward" not in shown
    monkeypatch.delenv("ARB_TERNARY_BACKEND")
    assert main(["doctor", "-v"]) == 0
    shown = capsys.readouterr().out
    assert "linear_forward" in shown
    assert f"taken on cpu: torch ({registry.choose('auto').reason})" in shown


@pytest.mark.parametrize(
    ("versions", "named"),
    [
        ({"triton": "3.6.0"}, ["transposed accumulator", "12.8.93"]),
        ({"triton": "3.7.1"}, []),
        ({"triton": "3.9.0"}, ["12.9.86"]),
        ({"triton": "3.3.1", "tilelang": None}, []),
        ({"tilelang": "0.1.15+cu130"}, ["unwrapped", "falls back", "modulo 16"]),
    ],
)
def test_doctor_warns_of_known_miscompiles(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str | None], named: list[str]
) -> None:
    """Those of the installed versions, and no others."""
    monkeypatch.setattr(doctor, "package_version", versions.get)
    found = doctor.known_miscompiles()
    assert len(found) == len(named)
    assert all(words in line for words, line in zip(named, found, strict=True))


def test_doctor_says_why_a_backend_does_not_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing package and a broken module are reasons, not the end of the doctor."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setitem(registry.BACKENDS, "absent", "no_such_package.backend")
    monkeypatch.setitem(registry.BACKENDS, "broken", "arbitor.schedule")
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "no module named 'no_such_package'" in shown
    assert "lacks pack" in shown
    monkeypatch.setenv("ARB_TERNARY_BACKEND", "nonsense")
    assert main(["doctor"]) == 1
    assert "unknown backend 'nonsense'" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["nonsense", "no_such.module"])
def test_verify_refuses_a_backend(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence, exit status 2, no report."""
    monkeypatch.chdir(tmp_path)
    assert main(["verify", "--backend", name]) == 2
    sentence = capsys.readouterr().err
    assert name in sentence
    assert sentence.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_copy_is_the_commit_that_it_is_told_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there is a history, which may be another's."""
    monkeypatch.setenv("ARBITOR_COMMIT", "abc1234")
    assert source(find_suite().parent) == {"commit": "abc1234", "told by": "ARBITOR_COMMIT"}
    monkeypatch.delenv("ARBITOR_COMMIT")
    assert "told by" not in (source(find_suite().parent) or {})


def test_verify(tmp_path: Path) -> None:
    """A small selection: streamed, counted, sealed."""
    found = run("verify", "--backend", "reference", "--", *SELECTION, folder=tmp_path)
    assert found.returncode == 0, found.stdout + found.stderr
    [path] = (tmp_path / "reports").iterdir()
    assert path.name.startswith("verify-reference-20")
    assert f"report: {Path('reports', path.name)}" in found.stdout
    record = json.loads(path.read_text())
    assert record["module"] == "arbitor.reference"
    assert record["exit_status"] == 0
    assert record["arguments"] == SELECTION
    passed = record["counts"].pop("passed")
    assert passed > 0
    assert f"{passed} passed" in found.stdout
    assert record["counts"]["failed"] == record["counts"]["error"] == 0
    # an installed suite skips files that need the checkout
    assert record["counts"]["skipped"] == sum(record["not_run"].values())
    assert record["machine"]["torch"] == package_version("torch")
    assert record["source"] == source(find_suite().parent)
    record["counts"] = {"passed": passed, **record["counts"]}
    assert sealed(record) == record
    record["counts"]["passed"] += 1
    assert sealed(record) != record


def test_verify_gives_the_status_of_pytest(tmp_path: Path) -> None:
    """Nothing selected is status 5, and the report says so."""
    path = tmp_path / "here" / "r.json"
    words = ("verify", "--backend", "reference", "--report", str(path))
    assert run(*words, "--", "-k", "no_such_test", folder=tmp_path).returncode == 5
    record = json.loads(path.read_text())
    assert record["exit_status"] == 5
    assert record["counts"]["passed"] == 0


def test_outcomes_are_counted_once() -> None:
    """A phase that fails outside the call is an error; skips and expected failures keep their reasons."""

    def report(when: str, outcome: str, **more: Any) -> Any:
        kinds = {kind: kind == outcome for kind in ("passed", "failed", "skipped")}
        properties = [("domain", "bytes size 256"), (CLAUSES, ["ARB-PACK-001"])]
        named = {"when": when, "nodeid": f"test_{when}", "user_properties": properties}
        return SimpleNamespace(longrepr=None, **named, **kinds, **more)

    collected = Collected()
    for when in ("setup", "call", "teardown"):
        collected.pytest_runtest_logreport(report(when, "passed"))
    for when in ("call", "teardown"):
        collected.pytest_runtest_logreport(report(when, "failed"))
    skip = report("setup", "skipped")
    skip.longrepr = ("file", 1, "Skipped: no GPU")
    collected.pytest_runtest_logreport(skip)
    collected.pytest_collectreport(skip)
    collected.pytest_runtest_logreport(report("call", "skipped", wasxfail="issue 1"))
    collected.pytest_collectreport(report("collect", "failed"))
    assert collected.summary() == {
        "counts": {"passed": 1, "failed": 1, "error": 2, "skipped": 2, "xfailed": 1},
        "not_run": {"issue 1": 1, "no GPU": 2},
        "failed": ["test_call", "test_collect", "test_teardown"],
        "clauses": {"ARB-PACK-001": {"failed": 2, "ran": 3}},
    }
