"""Exact accumulation: the update of k microbatches is, bit for bit, that of one batch of all of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from arbitor.between.exact import ExactWork
from arbitor.between.work import Work
from arbitor.checkpoint import load_checkpoint
from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine import models
from arbitor.conformance.machine.models import backward, hash_of
from arbitor.conformance.training.trainers import CHECKPOINT, Runs
from arbitor.main import ARBModel
from arbitor.training import loop
from arbitor.training.float_work import FloatWork
from arbitor.training.recording.lines import read_lines
from arbitor.training.recording.run_folder import RunFolder
from arbitor.training.tasks import task
from arbitor.training.tasks.corpus import draw_batch
from arbitor.update import ternary_modules

EXACT = ("--accumulate", "exact")


def share_of_loss(model: ARBModel, tokens: torch.Tensor, of: int) -> torch.Tensor:
    """The share of `tokens` [B, T + 1] in a mean loss over `of` tokens."""
    return model.work.cross_entropy(model(tokens[:, :-1]), tokens[:, 1:]) * (1 / of)


@pytest.mark.clause("ARB-RUN-013", "ARB-RUN-003", "ARB-RNG-006")
@pytest.mark.parametrize("parts", [(1, 1, 1), (2, 4), (1, 5), (1,) * 6, (4, 2)], ids=str)
def test_microbatches_update_as_one_batch(target: Target, parts: tuple[int, ...]) -> None:
    """Three updates in a row, microbatches of equal and of unequal size."""
    whole, parted = models.model_of(target), models.model_of(target)
    for step in range(3):
        tokens = models.bytes_of(target, sum(parts), 9, seed=step, high=7)
        count = tokens[:, 1:].numel()
        backward(share_of_loss(whole, tokens, count))
        for part in tokens.split(list(parts)):
            backward(share_of_loss(parted, part, count))
        assert whole._ternary_update_memory().totals()["flips"] > 0
        parted._ternary_update_memory()
        assert hash_of(whole) == hash_of(parted)


@pytest.mark.clause("ARB-RUN-013")
@pytest.mark.parametrize("rows", [5, 7, 10])
@pytest.mark.parametrize("work", [ExactWork("torch"), FloatWork()], ids=["exact", "float"])
def test_a_share_has_the_gradient_of_the_whole(work: Work, rows: int) -> None:
    """Of seven microbatches, bit for bit: a sum over one count, and no mean of means."""
    whole = torch.randn(7 * rows, 9, generator=torch.Generator().manual_seed(rows)).requires_grad_()
    targets, truth = torch.arange(7 * rows) % 9, torch.zeros(7 * rows, 9)
    losses: tuple[Any, ...] = (task.mean_cross_entropy, task.mean_squared_error)
    for loss, other in zip(losses, (targets, truth), strict=True):
        (expected,) = torch.autograd.grad(loss(work, whole, other, 1), whole)
        parts = zip(whole.chunk(7), other.chunk(7), strict=True)
        found = [torch.autograd.grad(loss(work, part, its, 7), part)[0] for part, its in parts]
        assert torch.equal(torch.cat(found), expected)


@pytest.mark.clause("ARB-RUN-013")
def test_the_order_of_microbatches_counts(target: Target) -> None:
    """Random bits belong to a token's number, so the check above would see tokens that change places."""
    ends = []
    for order in ([0, 1], [1, 0]):
        model = models.model_of(target)
        parts = models.bytes_of(target, 2, 2, 9, high=7)[torch.tensor(order)]
        for part in parts:
            backward(share_of_loss(model, part, 32))
        model._ternary_update_memory()
        ends.append(hash_of(model))
    assert ends[0] != ends[1]


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunFolder, "plot", lambda *_: None)  # takes longer than all else here


def end_of(runs: Runs, name: str) -> tuple[str, list[dict[str, Any]]]:
    folder = runs.folder / name
    return load_checkpoint(folder / CHECKPOINT).digest, read_lines(folder / "metrics.jsonl")


@pytest.mark.clause("ARB-RUN-013")
def test_a_run_of_microbatches_is_the_run_of_batches(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same sequences as 4 microbatches of 1 an update and as batches of 4: state and losses."""
    honest = draw_batch

    def singly(data: Any, batch: int, context: int, seed: int, step: int) -> Any:
        drawn = [honest(data, 1, context, seed, batch * step + place) for place in range(batch)]
        return tuple(np.concatenate(side) for side in zip(*drawn, strict=True))

    monkeypatch.setattr(task, "draw_batch", singly)
    quick = ("--accum-threshold", "3", "--log-interval", "1", "--eval-interval", "4")
    assert runs("pretrain.py", *quick, "--batch", "4", "--steps", "4", "--run", "batches") == 0
    parted = ("--batch", "1", "--accum", "4", "--steps", "16", "--run", "microbatches")
    assert runs("pretrain.py", *quick, *EXACT, *parted) == 0
    (digest, lines), (parted_digest, parted_lines) = (end_of(runs, n) for n in ("batches", "microbatches"))
    assert digest == parted_digest
    assert [line["step"] for line in parted_lines] == [4 * line["step"] for line in lines] == [4, 8, 12, 16]
    for counts in ("votes", "fires", "flips"):
        assert [line[counts] for line in lines] == [line[counts] for line in parted_lines]
    terms = 4 * 8  # of a float32 sum in another order: half a unit of the last place each
    for line, other in zip(lines, parted_lines, strict=True):
        assert abs(line["loss"] - other["loss"]) <= terms / 2 * np.spacing(np.float32(line["loss"]))


@pytest.mark.clause("ARB-RUN-008", "ARB-RUN-013")
def test_it_is_not_the_default(runs: Runs) -> None:
    """And both do what they say: so many updates of each module."""
    ends = []
    for name, flags, updates in (("default", (), 6), ("exact", EXACT, 2)):
        assert runs("pretrain.py", "--steps", "6", "--accum", "3", "--run", name, *flags) == 0
        tensors = load_checkpoint(runs.folder / name / CHECKPOINT).tensors
        assert {int(value[4]) for key, value in tensors.items() if key.endswith("_extra_state")} == {updates}
        ends.append(end_of(runs, name)[0])
    assert ends[0] != ends[1]


@pytest.mark.clause("ARB-RUN-005", "ARB-RUN-006", "ARB-RUN-013")
def test_one_bad_microbatch_skips_the_whole_update(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is changed by the others, and nothing of them is left for the next update."""
    honest, calls, left = loop.Trainer._loss, [0], []

    def poisoned(trainer: Any, *arguments: Any, **named: Any) -> torch.Tensor:
        calls[0] += 1
        loss: torch.Tensor = honest(trainer, *arguments, **named)
        if calls[0] == 4:  # the first of the second update
            left.append([len(m.captures) for m in ternary_modules(trainer.learner.model).values()])
        return loss * math.nan if calls[0] == 2 else loss

    monkeypatch.setattr(loop.Trainer, "_loss", poisoned)
    flags = ("--steps", "6", "--accum", "3", "--eval-interval", "0", "--run", "bad")
    assert runs("pretrain.py", *EXACT, *flags) == 0
    assert {count for counts in left for count in counts} == {0}
    tensors = load_checkpoint(runs.folder / "bad" / CHECKPOINT).tensors
    assert {int(value[4]) for key, value in tensors.items() if key.endswith("_extra_state")} == {1}
    assert "not finite" in capsys.readouterr().err


@pytest.mark.clause("ARB-RUN-013", "ARB-LIN-008")
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--steps", "7", "--accum", "2"), "--steps 7 is no multiple of --accum 2"),
        (
            ("--steps", "4", "--accum", "2", "--experts", "2", "--balance", "0.1"),
            "--accumulate exact needs --balance 0",
        ),
        (
            ("--steps", "8", "--accum", "8", "--batch", "2048", "--ctx", "65"),
            "at most 1048576 tokens, got 1064960",
        ),
    ],
)
def test_what_cannot_be_is_refused(
    runs: Runs, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], said: str
) -> None:
    assert runs("pretrain.py", *EXACT, *flags) == 2
    assert said in capsys.readouterr().err


@pytest.mark.clause("ARB-RUN-013")
@pytest.mark.parametrize("kind", ["ste", "float"])
def test_twins_accumulate_too(runs: Runs, kind: str) -> None:
    """Their optimiser takes one step from the microbatches' sum."""
    flags = ("--baseline", kind, "--steps", "6", "--accum", "3", "--run", kind)
    assert runs("pretrain.py", *EXACT, *flags) == 0
    tensors = load_checkpoint(runs.folder / kind / CHECKPOINT).tensors
    assert {int(value) for key, value in tensors.items() if key.endswith(".step")} == {2}


@pytest.mark.clause("ARB-RUN-013")
@pytest.mark.parametrize("kind", ["ste", "float"])
def test_a_twin_forgets_a_bad_update(runs: Runs, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """The gradient of an update that is skipped is no part of the next one."""
    honest, calls = loop.Trainer._loss, [0]

    def poisoned(trainer: Any, *arguments: Any, **named: Any) -> torch.Tensor:
        calls[0] += 1
        loss: torch.Tensor = honest(trainer, *arguments, **named)
        return loss * math.nan if calls[0] == 2 else loss

    monkeypatch.setattr(loop.Trainer, "_loss", poisoned)
    flags = ("--steps", "6", "--accum", "3", "--eval-interval", "0", "--run", kind)
    assert runs("pretrain.py", *EXACT, *flags, "--baseline", kind) == 0
    tensors = load_checkpoint(runs.folder / kind / CHECKPOINT).tensors
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())
    assert {int(value) for key, value in tensors.items() if key.endswith(".step")} == {1}
