"""A recorded run is made again by its digests; what was changed is found at its step and tensor."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from arbitor.checkpoint import load_checkpoint, save_checkpoint
from arbitor.cli import main
from arbitor.conformance.training.started import Started
from arbitor.kernels import registry
from arbitor.training import learners, loop
from arbitor.update import ternary_modules

pytestmark = pytest.mark.usefixtures("one_lane", "no_picture")
RECORD, CONFIG = "digests.jsonl", "config.json"
KEPT = ("--keep-interval", "2")
FEATURES = ("--experts", "2", "--max-moe-iters", "2", "--window", "3", "--layers", "2")


@pytest.fixture
def made(started: Started) -> Started:
    """A run of six updates, whose checkpoints of every second stay."""
    assert started(*KEPT) == 0
    return started


def audited(
    started: Started, capsys: pytest.CaptureFixture[str], *words: str, run: str = "run"
) -> tuple[int, str]:
    """Exit status and output of an audit of that run."""
    capsys.readouterr()
    where = ("--backend", "torch") if "--backend" not in words else ()
    status = main(["audit", str(started.runs / run), "--device", "cpu", "--threads", "1", *where, *words])
    out, err = capsys.readouterr()
    return status, out + err


@pytest.mark.clause("ARB-TRAIN-006")
def test_a_run_is_what_it_recorded(made: Started, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = audited(made, capsys)
    assert status == 0
    assert "steps 1 to 6: made again and the same" in said
    assert said.endswith("every digest agrees: 31 tensors, 6 updates asked for\n")


@pytest.mark.clause("ARB-TRAIN-006", "ARB-TRAIN-001")
def test_the_reference_makes_the_same(made: Started, capsys: pytest.CaptureFixture[str]) -> None:
    """From the checkpoint before it."""
    status, said = audited(made, capsys, "--steps", "4", "--backend", "reference")
    assert status == 0, said
    assert "made again by reference on cpu" in said
    assert "steps 3 to 4: made again and the same" in said


@pytest.mark.clause("ARB-TRAIN-006")
@pytest.mark.parametrize(
    ("words", "count"), [("--random 3 --seed 1", 3), ("--steps 2..5", 4), ("--steps 6", 1)]
)
def test_some_of_its_updates(
    made: Started, capsys: pytest.CaptureFixture[str], words: str, count: int
) -> None:
    status, said = audited(made, capsys, *words.split())
    assert status == 0, said
    assert f"{count} updates asked for" in said


@pytest.mark.clause("ARB-TRAIN-006", "ARB-RUN-013")
@pytest.mark.parametrize(
    "flags",
    [FEATURES, ("--accumulate", "exact", "--accum", "2"), ("--preserve-state",), ("--control", "frozen")],
    ids=" ".join,
)
def test_runs_of_every_sort(
    started: Started, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...]
) -> None:
    assert started(*KEPT, *flags) == 0
    status, said = audited(started, capsys)
    assert status == 0, said
    assert "every digest agrees" in said


@pytest.mark.clause("ARB-TRAIN-006", "ARB-RUN-010")
def test_a_run_whose_kv_state_goes_on(started: Started, capsys: pytest.CaptureFixture[str]) -> None:
    """It is in no checkpoint, so an audit begins at the beginning, whatever was kept."""
    assert started(*KEPT, "--preserve-state") == 0
    status, said = audited(started, capsys, "--steps", "5")
    assert status == 0, said
    assert "steps 1 to 5: made again and the same" in said


@pytest.mark.clause("ARB-TRAIN-006", "ARB-TRAIN-002")
def test_a_resumed_run_records_what_one_that_was_not_does(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte for byte, also where it was stopped behind its last checkpoint."""
    assert started("--run", "whole") == 0
    honest = loop.Trainer._goes_on
    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "_goes_on", lambda t, caught: honest(t, [2] if t.done == 3 else []))
        assert started() == 130
    assert started("--resume") == 0
    files = [started.path("digests.jsonl", name).read_bytes() for name in ("whole", "run")]
    assert files[0] == files[1]
    assert files[0].count(b"\n") == 1 + 1 + 6


def flipped(path: Path, name: str) -> None:
    """One trit of a checkpoint another one, and its seal that of the new state."""
    found = load_checkpoint(path)
    codes = found.tensors[f"{name}.codes"]
    codes[0, 0] ^= 0b10 if int(codes[0, 0]) & 0b11 == 0b10 else 0b11 if int(codes[0, 0]) & 0b11 == 1 else 1
    save_checkpoint(path, found.tensors, found.config, found.step)


@pytest.mark.clause("ARB-TRAIN-006", "ARB-DIG-002")
def test_a_flipped_trit_of_a_checkpoint(made: Started, capsys: pytest.CaptureFixture[str]) -> None:
    flipped(made.path("checkpoints/step-00000004.safetensors"), "blocks.0.up")
    status, said = audited(made, capsys, "--steps", "5")
    assert status == 1
    assert "step 4: the checkpoint is not the state that was recorded: blocks.0.up.codes\n" in said


@pytest.mark.clause("ARB-TRAIN-006", "ARB-DIG-002")
@pytest.mark.parametrize("tensor", ["head.codes", "embedding.moment", "blocks.0.down.t_accum"])
def test_a_state_that_was_changed_in_between(
    started: Started, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tensor: str
) -> None:
    """By the run's third update, in one element: it is named, and shown."""
    honest = learners.TernaryLearner.update

    def changed(learner: Any, signal: torch.Tensor, done: int, total: int) -> Any:
        found = honest(learner, signal, done, total)
        if done == 2:
            module, _, part = tensor.rpartition(".")
            state = ternary_modules(learner.model)[module].state()[part].view(-1)
            state[5] = (
                state[5] & 0b11111100 | (int(state[5]) & 3 == 0) if part == "codes" else int(state[5]) - 1
            )
        return found

    with monkeypatch.context() as patch:
        patch.setattr(learners.TernaryLearner, "update", changed)
        assert started("--keep-interval", "3") == 0
    status, said = audited(started, capsys)
    assert status == 1
    assert f"\nstep 3: {tensor} differs\n" in said
    assert f"made again, and as the run has kept it, at step 3:\n  {tensor}: 1 of " in said


@pytest.mark.clause("ARB-TRAIN-006", "ARB-DIG-001")
def test_a_byte_of_the_data(made: Started, capsys: pytest.CaptureFixture[str]) -> None:
    """The first update whose batch has it is named."""
    data = bytearray(made.text.read_bytes())
    corpus = loop_batches(made)
    place = next(place for place in range(len(data)) if first_with(corpus, place) == 3)
    data[place] ^= 1
    made.text.write_bytes(bytes(data))
    status, said = audited(made, capsys)
    assert status == 1
    assert "step 3: batch differs: the data are not those of the run" in said


def loop_batches(started: Started) -> list[set[int]]:
    """Places of the text that each batch of the run has, from where its windows lie."""
    from arbitor.training.tasks.corpus import draw_batch

    count = len(started.text.read_bytes())
    train = torch.arange(count).numpy()[: count - count // 10]
    return [set(draw_batch(train, 2, 8, 0, step)[1].flatten().tolist()) for step in range(6)]


def first_with(batches: list[set[int]], place: int) -> int:
    """The update, from 1, whose batch is the first to have a place; 0 for none."""
    return next((step for step, batch in enumerate(batches, start=1) if place in batch), 0)


@pytest.mark.clause("ARB-TRAIN-006")
@pytest.mark.parametrize("operation", ["norm", "attention", "cross_entropy", "linear_update"])
def test_a_wrong_kernel(
    started: Started, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """Right twice and then off in one bit of its first result: found in the update that called it."""
    backend = registry.select("torch")
    honest, calls = getattr(backend, operation), []

    def wrong(*arguments: Any, **named: Any) -> Any:
        found = honest(*arguments, **named)
        calls.append(operation)
        first = found[0] if isinstance(found, tuple) else found
        if len(calls) == wrong_at:
            if operation == "linear_update":
                arguments[4].view(-1)[:3] ^= 1  # of t_accum
            else:
                first.view(-1)[:40] += 1
        return found

    per_step = {"norm": 5, "attention": 1, "cross_entropy": 1, "linear_update": 5}[operation]
    wrong_at = 3 * per_step
    with monkeypatch.context() as patch:
        patch.setattr(backend, operation, wrong)
        assert started("--eval-interval", "0", *KEPT) == 0
    status, said = audited(started, capsys)
    assert status == 1
    assert "\nstep 3: " in said, said


@pytest.mark.clause("ARB-TRAIN-006")
def test_two_runs_part_where_they_do(made: Started, capsys: pytest.CaptureFixture[str]) -> None:
    """The same on another backend; with another cooldown from the step on at which it shows."""
    assert made("--run", "again", "--backend", "reference", "--steps", "6") == 0
    assert made("--run", "other", "--cooldown", "100", *KEPT) == 0
    capsys.readouterr()
    runs = {name: str(made.runs / name) for name in ("run", "again", "other")}
    assert main(["diff", runs["run"], runs["again"]]) == 0
    assert capsys.readouterr().out.endswith("all 7 common steps agree, 0 to 6\n")
    assert main(["diff", runs["run"], runs["other"]]) == 1
    said = capsys.readouterr().out
    assert "cooldown is " in said
    assert " and 100\n" in said
    assert "\nstep 2: " in said
    assert "elements differ" in said


def test_diff_of_other_models(made: Started, capsys: pytest.CaptureFixture[str]) -> None:
    assert made("--run", "other", "--layers", "2") == 0
    capsys.readouterr()
    assert main(["diff", str(made.runs / "run"), str(made.runs / "other")]) == 1
    said = capsys.readouterr().out
    assert "they have other tensors: blocks.1.attention.out.codes, " in said


def without(path: Path) -> None:
    path.unlink()


def lines_changed(change: Callable[[list[dict[str, Any]]], None]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        found = [json.loads(line) for line in path.read_text().splitlines()]
        change(found)
        path.write_text("".join(f"{json.dumps(line)}\n" for line in found))

    return apply


CHANGED: dict[str, tuple[dict[str, str], str]] = {
    "batch": ({"batch": "0123456789abcdef"}, "step 3: batch differs"),
    "loss": ({"loss": "0x1.8p+1"}, "step 3: loss ("),
    "state": ({"state": "0123456789abcdef" * 31}, "step 3: embedding.codes, the first of 31 "),
}


@pytest.mark.clause("ARB-TRAIN-006")
@pytest.mark.parametrize("part", CHANGED)
def test_a_line_that_was_changed(made: Started, capsys: pytest.CaptureFixture[str], part: str) -> None:
    """Each part of it is compared, and named."""
    change, sentence = CHANGED[part]
    lines_changed(lambda found: found[4].update(change))(made.path(RECORD))
    status, said = audited(made, capsys)
    assert status == 1
    assert f"\n{sentence}" in said


def unchanged(path: Path) -> None:
    pass


FEWER = lines_changed(lambda found: found[3].update(state=found[3]["state"][16:]))
REFUSED: dict[str, tuple[str, Callable[[Path], None], tuple[str, ...], str]] = {
    "no record": (RECORD, without, (), "there is no "),
    "no config": (CONFIG, without, (), "config.json: No such file"),
    "no header": (RECORD, lines_changed(lambda found: found.remove(found[0])), (), "line 1: at $"),
    "a line twice": (
        RECORD,
        lines_changed(lambda found: found.append(found[-1])),
        (),
        "step 6 behind step 6",
    ),
    "fewer digests": (RECORD, FEWER, (), "line 4: 30 digests, expected those of 31 tensors"),
    "a kind": (
        RECORD,
        lines_changed(lambda found: found[0].update(kind="smell")),
        (),
        "expected one of text",
    ),
    "steps": (CONFIG, unchanged, ("--steps", "7..9"), "--steps 7..9: the run has updates of 1 to 6"),
    "words": (CONFIG, unchanged, ("--steps", "first"), "--steps must be N or N..M, got 'first'"),
    "random": (CONFIG, unchanged, ("--random", "0"), "--random must be at least 1, got 0"),
    "no data": (CONFIG, unchanged, ("--data", "nowhere.txt"), "nowhere.txt"),
}


@pytest.mark.clause("ARB-TRAIN-006")
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_audited(made: Started, capsys: pytest.CaptureFixture[str], case: str) -> None:
    """One sentence, and nothing of the run is changed."""
    file, damage, words, sentence = REFUSED[case]
    damage(made.path(file))
    before = made.contents()
    status, said = audited(made, capsys, *words)
    assert status == 2
    assert sentence in said
    assert said.splitlines()[-1].startswith("error: ")
    assert made.contents() == before


@pytest.mark.clause("ARB-TRAIN-006")
def test_a_twin_has_no_record(started: Started, capsys: pytest.CaptureFixture[str]) -> None:
    assert started("--baseline", "float") == 0
    assert not started.path("digests.jsonl").exists()
    status, said = audited(started, capsys)
    assert status == 2
    assert "a ternary run writes it, a twin does not" in said


@pytest.mark.clause("ARB-TRAIN-006")
def test_a_run_can_be_moved(made: Started, capsys: pytest.CaptureFixture[str]) -> None:
    """To another place, and its data to another one."""
    shutil.move(made.runs / "run", made.runs / "moved")
    data = made.text.rename(made.folder / "elsewhere.txt")
    status, said = audited(made, capsys, run="moved")
    assert status == 2
    status, said = audited(made, capsys, "--data", str(data), "--steps", "3", run="moved")
    assert status == 0, said
