"""A model learns, and three ways to break that are seen by the same band on the same loss (ARB-TRAIN-003).

A band that a broken trainer also meets says nothing. So beside the run itself go runs with every vote
negated, with frozen trits, and with every second update lost; each must end outside.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine import models
from arbitor.conformance.training.bands import RUNS, Verdict, judge, load_bands
from arbitor.kernels.registry import why_not_auto
from arbitor.training import learners
from arbitor.training.commands import Command
from arbitor.training.options import Options
from arbitor.update import ternary_modules

Learn = Callable[..., Verdict]


@pytest.fixture
def learn(target: Target, tmp_path: Path) -> Learn:
    """Called with further flags, runs the learning run in this process, where it can be sabotaged."""
    slow = why_not_auto(target.backend.name, target.device)
    if target.backend.arrays != "torch" or slow:
        pytest.skip(
            f"learning on it takes ten minutes or more ({slow or target.backend.arrays}); test_trajectory.py "
            "holds that it takes the steps of torch"
        )

    def run(*extra: str) -> Verdict:
        path = tmp_path / "report.json"
        where = ("--backend", target.backend.name, "--device", target.device, "--report", str(path))
        assert Command("learning").main([*RUNS["learning"].arguments, *where, *extra]) == 0
        return judge("learning", json.loads(path.read_text(encoding="utf-8")), load_bands()["learning"])

    return run


def outside(verdict: Verdict) -> bool:
    """Whether a finite loss was found outside its band."""
    return any("is outside the band" in problem for problem in verdict.problems)


@pytest.mark.clause("ARB-TRAIN-003")
def test_the_control_never_changes(target: Target) -> None:
    """An update that has gradients to go by leaves its trits, its exponents and its counters as they are."""
    where: dict[str, Any] = {"backend": target.backend.name, "device": target.device}
    asked = Options(d_model=16, heads=2, layers=1, accum_threshold=1, control="frozen", **where)
    learner = learners.make_learner(asked, torch.device(target.device))
    before = models.snapshot(learner.model)
    loss = models.loss_of(learner.model, models.bytes_of(target, 2, 9))
    learner.accumulate(loss)
    assert learner.update(loss.detach(), 0, 10).skipped is None
    assert models.changed(before, models.snapshot(learner.model)) == []


@pytest.mark.clause("ARB-TRAIN-003")
def test_learning(learn: Learn) -> None:
    """In the band, which is below the unigram entropy."""
    assert learn().problems == ()


@pytest.mark.clause("ARB-TRAIN-003")
def test_learning_with_votes_negated(learn: Learn, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Updates that climb the loss end outside the band."""

    def negated(name: str, operand: int) -> Callable[..., torch.Tensor]:
        update: Callable[..., torch.Tensor] = getattr(target.backend, name)

        def sabotaged(*arguments: Any) -> torch.Tensor:
            changed = list(arguments)
            changed[operand] = -changed[operand]  # int8 in -127..127, so this is exact
            return update(*changed)

        return sabotaged

    monkeypatch.setattr(target.backend, "linear_update", negated("linear_update", 0))
    monkeypatch.setattr(target.backend, "embedding_update", negated("embedding_update", 1))
    assert outside(learn())


@pytest.mark.clause("ARB-TRAIN-003")
def test_learning_with_trits_frozen(learn: Learn) -> None:
    """No update at all ends outside the band; nothing changes, so that the first validation is the last."""
    assert outside(learn("--control", "frozen", "--steps", "2", "--eval-interval", "2"))


@pytest.mark.clause("ARB-TRAIN-003", "ARB-RUN-008")
def test_learning_with_every_second_update_lost(learn: Learn, monkeypatch: pytest.MonkeyPatch) -> None:
    """The defect of a trainer that clears its captures between microbatches: it learns, but too little."""
    update = learners.TernaryLearner.update

    def sabotaged(self: Any, loss_signal: torch.Tensor, done: int, total: int) -> Any:
        if done % 2 == 0:
            return update(self, loss_signal, done, total)
        for module in ternary_modules(self.model).values():
            module.clear_captures()
        return learners.Updated()

    monkeypatch.setattr(learners.TernaryLearner, "update", sabotaged)
    assert outside(learn())
