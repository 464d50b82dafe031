"""What was changed in a run, its data, its record or a kernel is found at its step and tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from arbitor.checkpoint import load_checkpoint, save_checkpoint
from arbitor.conformance.training.audit.audits import KEPT, RECORD, audited, lines_changed
from arbitor.conformance.training.started import Started
from arbitor.kernels import registry
from arbitor.training import learners
from arbitor.update import ternary_modules

pytestmark = pytest.mark.usefixtures("one_lane", "no_picture")


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
    place = made.path("checkpoints/step-00000004.safetensors")
    assert f"step 4: {place} is not the state that was recorded: blocks.0.up.codes\n" in said


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
    assert "step 3: batch differs: the data, text.txt, have the sha256 " in said


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


CHANGED: dict[str, tuple[dict[str, str], str]] = {
    "batch": ({"batch": "0123456789abcdef"}, "step 3: batch differs"),
    "loss": ({"loss": "0x1.8p+1"}, "step 3: loss ("),
    "state": ({"state": "0123456789abcdef" * 31}, "step 3: embedding.codes (the first of 31 tensors"),
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


@pytest.mark.clause("ARB-TRAIN-006", "ARB-DIG-002")
def test_the_last_checkpoint_is_compared_too(made: Started, capsys: pytest.CaptureFixture[str]) -> None:
    """It is the one that people use. One of a step that is not in the record is named."""
    status, said = audited(made, capsys, "--steps", "3")
    assert status == 0
    assert "4 checkpoints have the state that was recorded" in said
    flipped(made.path(), "head")
    status, said = audited(made, capsys, "--steps", "3")
    assert status == 1
    assert f"step 6: {made.path()} is not the state that was recorded: head.codes\n" in said


@pytest.mark.clause("ARB-TRAIN-006")
def test_a_record_that_was_changed(made: Started, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the states are the same next, that is said."""
    lines_changed(lambda found: found[4].update(state="0123456789abcdef" * 31))(made.path(RECORD))
    status, said = audited(made, capsys, "--steps", "3")
    assert status == 1
    assert "no element differs there: the record is another one, and not the computation" in said
