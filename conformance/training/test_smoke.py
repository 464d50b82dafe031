"""The shortest training runs end in their bands, and the smoke script says so when one does not."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from arbitor.conformance.judge.target import Target
from arbitor.conformance.training.bands import RUNS, Run, load_bands
from arbitor.conformance.training.bands import judge as verdict_of
from arbitor.conformance.training.launch import RunFailed, launch
from arbitor.kernels.registry import BACKENDS
from arbitor.training import smoke


def report_of(run: str, **changes: Any) -> dict[str, Any]:
    """A report in the middle of the run's band."""
    band = load_bands()[run]
    middle = (band.low + band.high) / 2
    report = {
        "name": "canned", "backend": "torch", "reason": "auto: canned", "losses": [middle], "valid": [middle],
        "guess": 3.2, "digest": "d" * 64, "float_parameters": 0, "seconds": 1.0, "skipped": [],
        "corpus": {"name": band.corpus},
    }  # fmt: skip
    return report | changes


@pytest.mark.clause("ARB-MODEL-001", "ARB-RUN-008")
@pytest.mark.parametrize("run", ["pretrain", "text"])
def test_short_run(run: str, target: Target, tmp_path: Path) -> None:
    """Finite, nothing skipped, no float parameter, in the band recorded over seeds."""
    if target.backend.arrays == "lists":
        pytest.skip("a model on lists of Python integers takes hours")
    where = ("--backend", target.backend.name, "--device", target.device, "--runs", str(tmp_path))
    # Triton's interpreter takes ten minutes on a busy machine
    report = launch(RUNS[run], *where, "--threads", "1", timeout=2400)
    assert verdict_of(run, report, load_bands()[run]).problems == ()
    assert report["steps"] == int(RUNS[run].arguments[1])
    assert report["float_parameters"] == 0


class Canned:
    """Stands in for `launch`: reports in their bands, except for what a test changes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.smoke: Any = smoke
        monkeypatch.setattr(self.smoke, "launch", self.launch)
        monkeypatch.setattr(self.smoke.console, "width", 200)
        self.changes: dict[tuple[str, ...], dict[str, Any]] = {}
        self.fails = ""
        self.interpreted: dict[str, Mapping[str, str]] = {}

    def launch(self, run: Run, *extra: str, environment: Mapping[str, str]) -> dict[str, Any]:
        self.interpreted[extra[1]] = environment
        name = next(name for name, candidate in RUNS.items() if candidate == run)
        if name == self.fails:
            raise RunFailed("python training/text.py: exit status 1: out of memory")
        backend = {"backend": extra[1]} if extra[:1] == ("--backend",) else {}
        frozen = {"valid": [6.0], "losses": [6.0]} if "frozen" in extra else {}
        kind = (name, "frozen") if frozen else (name, backend.get("backend", "auto"))
        return report_of(name, **backend, **frozen) | self.changes.get(kind, {})


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch) -> Canned:
    return Canned(monkeypatch)


def test_smoke_passes(canned: Canned, capsys: pytest.CaptureFixture[str]) -> None:
    assert canned.smoke.main([]) == 0
    shown = capsys.readouterr().out
    assert "auto: canned" in shown
    assert "FAILED" not in shown
    assert shown.splitlines()[-1] == "everything is right: 6 of 6 runs passed"


def test_smoke_says_what_runs(
    canned: Canned, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it starts, and before it ends; on a terminal a spinner does."""
    canned.smoke.main([])
    assert [line for line in capsys.readouterr().out.splitlines() if "/" in line.split(" ")[0]] == [
        "1/6 pretrain on reference", "2/6 pretrain on torch", "3/6 text on reference", "4/6 text on torch",
        "5/6 learning on auto", "6/6 frozen on auto",
    ]  # fmt: skip
    out, honest = io.TextIOWrapper(io.BytesIO()), canned.smoke.launch
    seen: list[bytes] = []

    def launch(*arguments: Any, **environment: Any) -> Any:
        seen.append(out.buffer.getvalue())
        return honest(*arguments, **environment)

    monkeypatch.setattr(canned.smoke, "launch", launch)
    monkeypatch.setattr(sys, "stdout", out)
    canned.smoke.main(EVERY)
    assert [text.decode().splitlines()[-1].split()[0] for text in seen] == [f"{n}/8" for n in range(1, 9)]
    monkeypatch.undo()


def test_smoke_on_a_terminal_has_no_such_lines(
    canned: Canned, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    canned.smoke.main([])
    assert "1/6" not in capsys.readouterr().out


@pytest.mark.clause("ARB-TRAIN-001", "ARB-TRAIN-003")
@pytest.mark.parametrize(
    ("kind", "change", "sentence"),
    [
        (("pretrain", "torch"), {"digest": "e" * 64}, "pretrain on torch: state hashes differ"),
        (
            ("text", "reference"),
            {"losses": [4.0, None]},
            "text on reference: its training losses are not all",
        ),
        (("text", "torch"), {"float_parameters": 7}, "text on torch: it has 7 trainable float parameters"),
        (("learning", "auto"), {"valid": [2.9]}, "learning on torch: validation 2.9000 is outside the band"),
        (("learning", "auto"), {"guess": 1.0}, "is not below the unigram entropy 1.0000"),
        (("learning", "frozen"), {"valid": [2.0]}, "is not 1.0 below that of frozen trits, 2.0000"),
    ],
)
def test_smoke_fails(
    canned: Canned,
    capsys: pytest.CaptureFixture[str],
    kind: tuple[str, str],
    change: dict[str, Any],
    sentence: str,
) -> None:
    """Exit status 1, and one sentence at the end of it."""
    canned.changes[kind] = change
    assert canned.smoke.main([]) == 1
    table, _, sentences = capsys.readouterr().out.partition(" s in all")
    assert "FAILED" in table
    assert sentence in " ".join(sentences.split())
    assert re.fullmatch(r"something is wrong: [45] of 6 runs passed", sentences.splitlines()[-1])


def test_smoke_survives_a_run_that_does_not(canned: Canned, capsys: pytest.CaptureFixture[str]) -> None:
    canned.fails = "text"
    assert canned.smoke.main([]) == 1
    assert "text on torch: python training/text.py: exit status 1: out of memory." in capsys.readouterr().out


EVERY = ["--every-backend"]


@pytest.mark.clause("ARB-TRAIN-001")
def test_smoke_on_every_backend(canned: Canned, capsys: pytest.CaptureFixture[str]) -> None:
    """Both trainers on each backend of the registry, Triton in its interpreter, and nothing else."""
    assert canned.smoke.main(EVERY) == 0
    shown = capsys.readouterr().out
    assert set(canned.interpreted) == set(BACKENDS)
    assert canned.interpreted.pop("triton") == {"TRITON_INTERPRET": "1"}
    assert not any(canned.interpreted.values())
    for run in ("pretrain-small", "text-small"):
        rows = [line.split()[:2] for line in shown.splitlines() if line.split()[:1] == [run]]
        assert rows == [[run, backend] for backend in canned.smoke.EVERY]
    assert "learning" not in shown


@pytest.mark.clause("ARB-TRAIN-001", "ARB-MODEL-001")
@pytest.mark.parametrize("run", ["pretrain-small", "text-small"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"losses": [None]}, "its training losses are not all finite"),
        ({"losses": [99.0]}, "mean training loss 99.0000 is outside the band"),
        ({"float_parameters": 7}, "it has 7 trainable float parameters, expected 0"),
        ({"digest": "e" * 64}, "state hashes differ between reference and"),
    ],
)
def test_smoke_on_every_backend_fails(
    canned: Canned,
    capsys: pytest.CaptureFixture[str],
    run: str,
    backend: str,
    change: dict[str, Any],
    sentence: str,
) -> None:
    """For a fault of any one of the eight runs; reference is what the others are compared with."""
    canned.changes[run, backend] = change
    assert canned.smoke.main(EVERY) == 1
    sentences = " ".join(capsys.readouterr().out.partition(" s in all")[2].split())
    assert sentence in sentences
    assert f"{run} on {backend}: " in sentences or backend == "reference"


def test_smoke_of_a_backend_that_is_not_there(canned: Canned, capsys: pytest.CaptureFixture[str]) -> None:
    """It is a failure, not a run less."""
    canned.fails = "text-small"
    assert canned.smoke.main(EVERY) == 1
    sentences = capsys.readouterr().out.partition(" s in all")[2]
    assert sentences.count("text-small on ") == len(BACKENDS)
