"""What a run finds when it goes on: what kills left, lines that are lost, a checkpoint that was changed."""

from __future__ import annotations

import contextlib
import json
import signal
from typing import Any

import pytest

from arbitor.checkpoint import load_checkpoint, save_checkpoint
from arbitor.conformance.training.started import (
    CHECKPOINT,
    Started,
    leftovers,
    lines,
)
from arbitor.training import entry, loop
from arbitor.training.recording import run_folder

pytestmark = pytest.mark.usefixtures("one_lane")

# -- kills, and files that were damaged


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.usefixtures("no_picture")
@pytest.mark.parametrize("flags", [(), ("--resume",)])
def test_what_kills_left_goes_with_the_next_start(started: Started, flags: tuple[str, ...]) -> None:
    """Of files of the run's own names; what others put there stays."""
    assert started() == 0
    mine = started.path(".notes.txt.0123abcd.tmp")
    mine.write_text("mine")
    for file in run_folder.FILES:
        started.path(f".{file}.0123abcd.tmp").write_bytes(b"half of")
    assert started(*flags) == 0
    left = [path.name for path in leftovers(started)]
    assert left == [mine.name]


@pytest.mark.clause("ARB-TRAIN-002", "ARB-TRAIN-004")
@pytest.mark.usefixtures("no_picture")
@pytest.mark.parametrize("damage", ["deleted", "emptied", "torn", "a hole"])
def test_metrics_that_have_lost_lines(started: Started, damage: str) -> None:
    """--resume is refused in one sentence, and everything stays as it is; --new-metrics goes on, and says
    what became of the file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_interruptible", interrupted_in_step_5(patch))
        assert started() == entry.INTERRUPTED
    path = started.path("metrics.jsonl")
    data = path.read_bytes()
    assert data.count(b"\n") == 2
    path.unlink()
    if damage != "deleted":
        kept = {"emptied": b"", "torn": data[:-3], "a hole": data[data.index(b"\n") + 1 :]}[damage]
        path.write_bytes(kept)
    before = started.contents()
    said = started.refused(2, "--resume")
    assert f"error: {path} " in said
    assert "put it back, or go on without them with --new-metrics" in said
    assert started.contents() == before
    started._capsys.readouterr()
    assert started("--resume", "--new-metrics") == 0
    shown = started._capsys.readouterr().err
    assert (f"{path} is {path}.1 now\n" in shown) == (damage != "deleted")
    assert [line["step"] for line in lines(started, "run")] == [6]
    assert started("--run", "whole") == 0
    assert load_checkpoint(started.path()).digest == load_checkpoint(started.path(name="whole")).digest
    assert lines(started, "run") == lines(started, "whole")[-1:]
    assert "--new-metrics goes with --resume" in started.refused(2, "--new-metrics")


def interrupted_in_step_5(patch: pytest.MonkeyPatch) -> Any:
    caught: list[int] = []
    honest = loop.Trainer._step

    def step(trainer: Any) -> None:
        if trainer.done == 4:
            caught.append(signal.SIGINT)
        honest(trainer)

    patch.setattr(loop.Trainer, "_step", step)
    return contextlib.contextmanager(lambda: iter([caught]))


DAMAGED: dict[str, Any] = {
    "gone": None,
    "empty": {},
    "a list": [],
    "no counts": lambda pending: pending.pop("counts"),
    "counts in a list": lambda pending: pending.update(counts=[0] * 5),
    "a count less": lambda pending: pending["counts"].popitem(),
    "a count of 2^63": lambda pending: pending["counts"].update(votes=2**63),
    "a count in words": lambda pending: pending["counts"].update(votes="many"),
    "a loss too large": lambda pending: pending.update(losses=["0x1.0000000000000p+5000"]),
    "a loss in words": lambda pending: pending.update(losses=["much"]),
    "a loss that is a number": lambda pending: pending.update(losses=[0.5]),
    "a loss more": lambda pending: pending["losses"].append((0.5).hex()),
    "no losses": lambda pending: pending["losses"].clear(),
    "no mark": lambda pending: pending.pop("metrics"),
    "a mark without bytes": lambda pending: pending["metrics"].pop("bytes"),
    "a mark of 2^62 bytes": lambda pending: pending["metrics"].update(bytes=2**62),
    "a mark of another hash": lambda pending: pending["metrics"].update(sha256="0" * 64),
}


@pytest.mark.clause("ARB-TRAIN-004", "ARB-TRAIN-002")
@pytest.mark.parametrize("case", DAMAGED)
@pytest.mark.usefixtures("no_picture")
def test_a_resealed_checkpoint_with_another_pending(started: Started, case: str) -> None:
    """One sentence that names the checkpoint, or the metrics that do not fit to it; all files stay."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_interruptible", interrupted_in_step_5(patch))
        assert started() == entry.INTERRUPTED
    found = load_checkpoint(started.path())
    pending = json.loads(json.dumps(found.config["pending"]))
    assert len(pending["losses"]) == 1
    config = dict(found.config)
    if callable(DAMAGED[case]):
        DAMAGED[case](pending)
        config["pending"] = pending
    elif DAMAGED[case] is None:
        del config["pending"]
    else:
        config["pending"] = DAMAGED[case]
    save_checkpoint(started.path(), found.tensors, config, found.step)
    before = started.contents()
    said = started.refused(2, "--resume")
    of_metrics = case in ("a mark of 2^62 bytes", "a mark of another hash")
    assert said.startswith(f"error: {started.path('metrics.jsonl' if of_metrics else CHECKPOINT)}")
    assert started.contents() == before


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize("step", [7, 2**40])
@pytest.mark.usefixtures("no_picture")
def test_a_resealed_checkpoint_of_another_step(started: Started, step: int) -> None:
    assert started() == 0
    found = load_checkpoint(started.path())
    save_checkpoint(started.path(), found.tensors, found.config, step)
    assert f"step {step} is none of a run of 6" in started.refused(2, "--resume")


def test_wrong_flags(started: Started) -> None:
    """One sentence, without lines of usage before it."""
    for flags in (["--stepz", "3"], ["--steps", "many"], ["--baseline", "what"], ["--steps", "0"], ["x"]):
        started._capsys.readouterr()
        assert started(*flags) == 2
        err = started._capsys.readouterr().err
        assert err.startswith("error: ")
        assert err.count("\n") == 1


@pytest.mark.usefixtures("no_picture")
def test_lines_are_not_broken(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hash and a path can be copied from any terminal, and the hash is seen whole on one of 80 columns."""
    monkeypatch.setenv("COLUMNS", "40")
    started._capsys.readouterr()
    assert started() == 0
    shown = started._capsys.readouterr().err.splitlines()
    digest = load_checkpoint(started.path()).digest
    assert f"state sha256 {digest}" in shown
    assert len(f"state sha256 {digest}") <= 80
    assert any(line.endswith(f"  {started.runs / 'run'}") for line in shown)
