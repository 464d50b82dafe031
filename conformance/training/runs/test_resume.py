"""A run that is interrupted anywhere and resumed is the run that was not: equal losses, equal state hash."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from arbitor.checkpoint import load_checkpoint
from arbitor.conformance.judge.target import Target
from arbitor.conformance.training.launch import START
from arbitor.training import entry, loop
from arbitor.training.commands import Command
from arbitor.training.recording.lines import read_lines
from arbitor.training.recording.run_folder import RunFolder

STEPS = 12
FLAGS = (
    "--d-model 16 --heads 2 --layers 1 --batch 2 --ctx 8 --eval-batches 1 --threads 1 --log-interval 3 "
    "--eval-interval 4 --save-interval 4 --accum-threshold 2 --scale-gain 1 --lr 0.1"
)
KINDS = {
    "2bit": (),
    "dense": ("--checkpoint-format", "dense"),
    "frozen": ("--control", "frozen"),
    "sign, every step": ("--vote-rule", "sign", "--log-interval", "1"),
    "exact": ("--accumulate", "exact", "--accum", "2"),
    "ste": ("--baseline", "ste"),
    "float": ("--baseline", "float", "--weight-decay", "0.1"),
}


class Runs:
    """Runs of one corpus below one folder."""

    def __init__(self, target: Target, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder / "runs", monkeypatch
        self.text = folder / "text.txt"
        self.text.write_text("a run that is interrupted is a run that goes on; " * 30)
        where = ["--backend", target.backend.name, "--device", target.device, "--runs", str(self.folder)]
        self.flags = [*FLAGS.split(), "--steps", str(STEPS), "--text-data", str(self.text), *where]

    def __call__(self, name: str, *flags: str, stop_at: int | None = None, crash: bool = False) -> int:
        """One session of the run `name`; a signal, or an error, comes in the middle of step `stop_at`."""

        @contextlib.contextmanager
        def interruptible() -> Iterator[list[int]]:
            yield caught

        def step(trainer: Any) -> None:
            if trainer.done + 1 == stop_at:
                if crash:
                    raise KeyboardInterrupt
                caught.append(signal.SIGINT)
            honest(trainer)

        caught: list[int] = []
        honest = loop.Trainer._step
        with self._patch.context() as patch:
            patch.setattr(loop, "_interruptible", interruptible)
            patch.setattr(loop.Trainer, "_step", step)
            patch.setattr(RunFolder, "plot", lambda *_: None)  # takes longer than all else here
            status: int = Command("a test").main([*self.flags, "--run", name, *flags])
        return status

    def path(self, name: str, file: str = "checkpoint.safetensors") -> Path:
        return self.folder / name / file

    def measured(self, name: str) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl without the speed."""
        lines = read_lines(self.path(name, "metrics.jsonl"))
        return [{key: value for key, value in line.items() if key != "items_per_s"} for line in lines]

    def end(self, name: str) -> tuple[list[dict[str, Any]], int, str]:
        """All that has to be equal: what was measured, the step, the hash of the state."""
        checkpoint = load_checkpoint(self.path(name))
        return self.measured(name), checkpoint.step, checkpoint.digest

    def contents(self, name: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.folder / name).iterdir()}


@pytest.fixture
def runs(target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    threads = torch.get_num_threads()
    yield Runs(target, tmp_path, monkeypatch)
    torch.set_num_threads(threads)


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(runs: Runs, kind: str) -> None:
    """Interrupted in step 1, again in step 5, between two logged lines, and again in step 11."""
    flags = KINDS[kind]
    assert runs("whole", *flags) == 0
    assert runs("parted", *flags, stop_at=1) == entry.INTERRUPTED
    assert load_checkpoint(runs.path("parted")).step == (2 if kind == "exact" else 1)
    assert runs("parted", *flags, "--resume", stop_at=5) == entry.INTERRUPTED
    assert runs("parted", *flags, "--resume", stop_at=11) == entry.INTERRUPTED
    assert runs("parted", *flags, "--resume") == 0
    lines, step, digest = runs.end("whole")
    assert runs.end("parted") == (lines, step, digest)
    assert step == STEPS
    assert [line["step"] for line in lines if "loss" in line][-1] == STEPS
    assert len({line["loss"] for line in lines if "loss" in line}) > 1 or kind == "frozen"
    assert len({line["val_loss"] for line in lines if "val_loss" in line}) == (1 if kind == "frozen" else 3)


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize("step", [2, 5, 8, 9, 12])
def test_a_killed_run_goes_on_from_its_last_checkpoint(runs: Runs, step: int) -> None:
    """What it measured after that is measured again, once."""
    runs("whole")
    with contextlib.suppress(KeyboardInterrupt):
        runs("killed", stop_at=step, crash=True)
    if step <= 4:
        assert not runs.path("killed").exists()
        assert runs("killed") == 0
    else:
        assert load_checkpoint(runs.path("killed")).step == (step - 1) // 4 * 4
        assert runs("killed", "--resume") == 0
    assert runs.end("killed") == runs.end("whole")


@pytest.mark.clause("ARB-TRAIN-002")
def test_resuming_a_run_that_is_over_changes_nothing(runs: Runs) -> None:
    runs("whole")
    before, end = runs.contents("whole"), runs.end("whole")
    assert runs("whole", "--resume") == 0
    assert runs.end("whole") == end
    after = runs.contents("whole")
    assert {n for n in before if before[n] != after[n]} <= {
        "checkpoint.safetensors"
    }  # its header has no order


@pytest.mark.clause("ARB-TRAIN-002")
def test_a_new_run_of_the_same_name_starts_anew(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    """And loses nothing: each earlier one is aside, whole, and one line says where."""
    runs("whole")
    runs("again", "--seed", "1")
    first = runs.contents("again")
    capsys.readouterr()
    assert runs("again", stop_at=5) == entry.INTERRUPTED
    moved = (
        f"{runs.folder / 'again'} held an earlier run of {STEPS} steps: it is {runs.folder / 'again.1'} now"
    )
    assert moved in capsys.readouterr().err.splitlines()
    second = runs.contents("again")
    assert runs("again", "--no-save") == 0
    assert runs("again", "--resume") == 0
    resumed = runs.contents("again")
    assert resumed != second
    assert not runs.path("again.2").exists()
    assert runs("again") == 0
    assert runs.end("again") == runs.end("whole")
    assert runs.contents("again.1") == first
    assert runs.contents("again.2") == resumed
    assert sorted(path.name for path in runs.folder.glob("again*")) == ["again", "again.1", "again.2"]


@pytest.mark.clause("ARB-TRAIN-002")
def test_resuming_before_the_first_step_moves_nothing(runs: Runs) -> None:
    assert runs("whole") == 0

    def stops(trainer: Any, _interrupted: list[int]) -> bool:
        trainer.result.interrupted = True
        return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Trainer, "_goes_on", stops)
        assert runs("run") == entry.INTERRUPTED
    assert load_checkpoint(runs.path("run")).step == 0
    assert runs("run", "--resume") == 0
    assert runs.end("run") == runs.end("whole")
    assert not runs.path("run.1", "config.json").exists()


OTHER = {
    "gain": ("--gain", "2.25"),
    "steps": ("--steps", "13"),
    "d_model": ("--d-model", "32"),
    "seed": ("--seed", "1"),
    "baseline": ("--baseline", "ste"),
    "control": ("--control", "frozen"),
    "accum": ("--accum", "2"),
}


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize("setting", [*OTHER, "corpus"])
def test_other_settings_are_refused(runs: Runs, setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence that names the setting; every file stays as it was."""
    runs("run", stop_at=5)
    before = runs.contents("run")
    if setting == "corpus":
        runs.text.write_text("another text; " * 90)
    capsys.readouterr()
    assert runs("run", "--resume", *OTHER.get(setting, ())) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert "was started with other settings" in error
    assert setting in error
    assert runs.contents("run") == before


@pytest.mark.clause("ARB-TRAIN-002")
def test_a_run_cannot_be_made_longer(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    """Not one that is over either; why is said of steps only."""
    runs("run")
    capsys.readouterr()
    assert runs("run", "--resume", "--steps", "60", "--seed", "1") == 2
    error = capsys.readouterr().err
    assert "options.seed is 0 in the run, 1 was asked for; options.steps is 12 in the run, 60 was" in error
    assert "(a run cannot be made longer or shorter: its schedule depends on its steps)" in error
    assert runs("run", "--resume", "--seed", "1") == 2
    assert "longer" not in capsys.readouterr().err


@pytest.mark.clause("ARB-TRAIN-002")
def test_what_decides_no_number_may_change(runs: Runs) -> None:
    """Format and cadence of checkpoints, and the backend."""
    runs("whole")
    runs("run", stop_at=5)
    free = ("--checkpoint-format", "dense", "--save-interval", "1", "--backend", "torch")
    assert runs("run", "--resume", *free) == 0
    assert runs.end("run") == runs.end("whole")


@pytest.mark.clause("ARB-TRAIN-004", "ARB-TRAIN-002")
@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda data: data[: len(data) // 2], "truncated"),
        (lambda data: data[:5], "truncated"),
        (lambda data: b"", "truncated"),
        (lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], "altered|illegal"),
        (lambda data: b"GGUF" + data[4:], "not a safetensors file|truncated"),
    ],
)
def test_a_damaged_checkpoint_is_one_error_and_changes_nothing(
    runs: Runs, damage: Callable[[bytes], bytes], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the undamaged one goes on afterwards."""
    runs("whole")
    runs("run", stop_at=7)
    whole = runs.path("run").read_bytes()
    runs.path("run").write_bytes(damage(whole))
    before = runs.contents("run")
    capsys.readouterr()
    assert runs("run", "--resume") == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith(f"error: {runs.path('run')}: ")
    assert len(error.splitlines()) == 1
    assert any(word in error for word in found.split("|"))
    assert runs.contents("run") == before
    runs.path("run").write_bytes(whole)
    assert runs("run", "--resume") == 0
    assert runs.end("run") == runs.end("whole")


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_after_its_step(runs: Runs, number: signal.Signals) -> None:
    """A real process, a real signal: status 130, a word about --resume, the state of exactly that step."""
    flags = ["--steps", "1000000", "--log-interval", "1", "--eval-interval", "0", "--save-interval", "0"]
    words = [sys.executable, "-m", "arbitor.training.pretrain", *runs.flags, "--run", "signalled", *flags]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(words, cwd=START, env=environment, stderr=subprocess.PIPE, text=True) as process:
        metrics = runs.path("signalled", "metrics.jsonl")
        deadline = time.monotonic() + 120
        while not (metrics.exists() and metrics.read_bytes().count(b"\n") >= 2) and process.poll() is None:
            assert time.monotonic() < deadline, "no second line in two minutes"
            time.sleep(0.02)
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
    assert process.returncode == entry.INTERRUPTED, said
    assert "--resume" in said
    lines, step, digest = runs.end("signalled")
    assert [line["step"] for line in lines] == list(range(1, step + 1))
    assert json.loads(runs.path("signalled", "config.json").read_bytes())
    assert runs("alone", *flags, stop_at=step) == entry.INTERRUPTED
    assert runs.end("alone") == (lines, step, digest)
