"""The trainers, each file of training/ that is one: what they hand to the update, and what becomes of it.

A new trainer is found by its file and held to all of this.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from arbitor import components
from arbitor.checkpoint import state_hash
from arbitor.components import TernaryModule
from arbitor.conformance.training.trainers import (
    DATA,
    FOLDER,
    NO_TRAINERS,
    Runs,
    finetunes,
    text_trainers,
    trainers,
)
from arbitor.main import ARBModel
from arbitor.runtime import reset_runtime_state
from arbitor.schedule import UpdateRule
from arbitor.training import loop
from arbitor.training.recording.lines import read_lines
from arbitor.update import UpdateReport, ternary_modules

pytestmark = pytest.mark.usefixtures("no_picture")

TEXT_PARTS = {"embedding", "head"}  # that a loss on other data need not reach
PARTS = {"enable_vision": "class_head", "enable_audio": "codes_head", "enable_diffusion": "clean_head"}


def reached(model: ARBModel, trainer: str) -> dict[str, TernaryModule]:
    """The modules that a trainer's loss certainly reaches."""
    left_out = TEXT_PARTS if trainer in DATA else set()
    return {name: module for name, module in ternary_modules(model).items() if name not in left_out}


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What every call of the optimiser step was given, and the model's thresholds at that moment."""
    seen: list[dict[str, Any]] = []
    honest = ARBModel._ternary_update_memory

    def spy(
        self: ARBModel, loss_components: Any = None, loss_signal: Any = None, **named: Any
    ) -> UpdateReport:
        modules = ternary_modules(self).values()
        captures = {name: len(module.captures) for name, module in ternary_modules(self).items()}
        seen.append(
            {
                "model": self,
                "signal": loss_signal,
                "thresholds": {(m.settings.accum_threshold, m.settings.e_accum_threshold) for m in modules},
                "captures": captures,
                # at the first step only: a copy of everything
                "before": {} if seen else {n: t.clone() for n, t in self.state_dict().items()},
                **named,
            }
        )
        return honest(self, loss_components, loss_signal, **named)

    monkeypatch.setattr(ARBModel, "_ternary_update_memory", spy)
    return seen


def test_trainers_are_found() -> None:
    assert {"pretrain.py", "text.py", "audio.py"} <= set(trainers())
    assert {"finetuning/text.py", "finetuning/audio.py"} <= set(trainers())
    assert all((FOLDER / name).is_file() for name in NO_TRAINERS)


def assert_signals_detached(seen: list[dict[str, Any]], steps: int) -> None:
    assert len(seen) == steps
    for call in seen:
        assert isinstance(call["signal"], torch.Tensor)
        assert call["signal"].grad_fn is None
        assert not call["signal"].requires_grad


@pytest.mark.clause("ARB-RUN-002")
def test_pretrain_loss_signal_detached(runs: Runs, updates: list[dict[str, Any]]) -> None:
    assert runs("pretrain.py", "--no-save") == 0
    assert_signals_detached(updates, 3)


@pytest.mark.clause("ARB-RUN-002", "ARB-RUN-008", "ARB-RUN-009")
@pytest.mark.parametrize("trainer", trainers())
def test_all_trainers_loss_signal_detached(
    runs: Runs,
    updates: list[dict[str, Any]],
    trainer: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And thresholds of 32 and 32 set by the trainer: here a module's own default is another."""
    own: dict[str, Any] = {"accum_threshold": 7, "e_accum_threshold": 9}
    monkeypatch.setattr(components, "UpdateRule", lambda **named: UpdateRule(**own, **named))
    assert runs(trainer, "--no-save") == 0
    assert_signals_detached(updates, 3)
    assert [call["thresholds"] for call in updates] == [{(32, 32)}] * 3
    for call in updates:
        captures = call["captures"]
        assert {captures[name] for name in reached(call["model"], trainer)} == {1}, "of this microbatch"
        assert max(captures.values()) == 1
    updates.clear()
    assert runs(trainer, "--no-save", "--accum-threshold", "5", "--e-accum-threshold", "6") == 0
    assert [call["thresholds"] for call in updates] == [{(5, 6)}] * 3


@pytest.mark.clause("ARB-RUN-008")
@pytest.mark.parametrize("trainer", trainers())
def test_accum_drops_nothing(runs: Runs, updates: list[dict[str, Any]], trainer: str) -> None:
    """Whatever --accum, every microbatch is an update and a part of a logged mean; state and losses are the
    same."""
    ends = {}
    for accum in ("1", "3", "4"):
        updates.clear()
        assert runs(trainer, "--steps", "6", "--accum", accum, "--run", accum) == 0
        model = updates[-1]["model"]
        assert len(updates) == 6
        assert {module.updates for module in reached(model, trainer).values()} == {6}
        lines = read_lines(runs.folder / accum / "metrics.jsonl")
        ends[accum] = (state_hash(model.state_dict()), {line["step"]: line["loss"] for line in lines})
    assert len({digest for digest, _ in ends.values()}) == 1
    losses = {accum: steps for accum, (_, steps) in ends.items()}
    assert list(losses["1"]) == [1, 2, 3, 4, 5, 6]
    assert len(set(losses["1"].values())) == 6

    def mean(*steps: int) -> float:
        return float(torch.tensor([losses["1"][step] for step in steps], dtype=torch.float64).mean())

    assert losses["3"] == {3: mean(1, 2, 3), 6: mean(4, 5, 6)}
    assert losses["4"] == {4: mean(1, 2, 3, 4), 6: mean(5, 6)}


@pytest.mark.clause("ARB-TRAIN-003")
@pytest.mark.parametrize("trainer", trainers())
def test_the_frozen_control(runs: Runs, updates: list[dict[str, Any]], trainer: str) -> None:
    """No byte of it changes; without the flag trits change under the same settings."""
    quick = ("--no-save", "--accum-threshold", "1", "--scale-gain", "1", "--e-accum-threshold", "1")
    ends = []
    for flags in (("--control", "frozen"), ()):
        updates.clear()
        assert runs(trainer, *quick, *flags) == 0
        model = updates[-1]["model"]
        before = updates[0]["before"]
        if not finetunes(trainer):  # as initialised
            flags_of: dict[str, Any] = {flag: hasattr(model, part) for flag, part in PARTS.items()}
            fresh = ARBModel(model.config, backend=model.head.backend.name, **flags_of)
            before = fresh.to(model.head.codes.device).state_dict()
        ends.append({n for n, tensor in model.state_dict().items() if not torch.equal(tensor, before[n])})
    assert ends[0] == set()
    head = next((part for part in PARTS.values() if hasattr(model, part)), "head")
    assert {f"{head}.codes", f"{head}.e"} <= ends[1]
    assert "embedding.codes" in ends[1] or trainer in DATA


@pytest.mark.parametrize("trainer", [name for name in trainers() if not finetunes(name)])
@pytest.mark.parametrize("kind", ["ste", "float"])
def test_the_baselines(runs: Runs, updates: list[dict[str, Any]], trainer: str, kind: str) -> None:
    """They learn something between the first and the last four batches, with float parameters and without
    an integer update."""
    batch = ("--batch", "16") if trainer in DATA else ()  # two images at a time say little of the next two
    assert runs(trainer, "--baseline", kind, "--steps", "16", "--lr", "0.3", *batch) == 0
    assert updates == []
    losses = [line["loss"] for line in read_lines(runs.path(trainer, "metrics.jsonl"))]
    assert len(losses) == 16
    assert all(map(math.isfinite, losses))
    assert sum(losses[-4:]) < sum(losses[:4])


@pytest.mark.clause("ARB-RUN-010")
@pytest.mark.parametrize("trainer", trainers())
def test_preserve_state(
    runs: Runs, updates: list[dict[str, Any]], trainer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runtime state is cleared before every random batch, never with --preserve-state, which is for texts."""
    calls: list[str] = []
    honest_reset, honest_forward = reset_runtime_state, ARBModel.forward

    def reset(model: ARBModel) -> None:
        calls.append("reset")
        honest_reset(model)

    def forward(self: ARBModel, tokens: torch.Tensor, *, stateful: bool = False) -> torch.Tensor:
        if torch.is_grad_enabled():
            calls.append("stateful" if stateful else "forward")
        return honest_forward(self, tokens, stateful=stateful)

    monkeypatch.setattr(loop, "reset_runtime_state", reset)
    monkeypatch.setattr(ARBModel, "forward", forward)
    assert runs(trainer, "--no-save", "--eval-interval", "1") == 0
    texts = trainer in text_trainers()
    assert calls == (["reset", "forward"] if texts else ["reset"]) * 3
    assert updates[-1]["model"]._position == 0
    calls.clear()
    if not texts:
        assert runs(trainer, "--preserve-state") == 2
        return
    assert runs(trainer, "--no-save", "--eval-interval", "1", "--preserve-state") == 0
    assert calls == ["stateful"] * 3
    model = updates[-1]["model"]
    assert model._position == 3 * 8
    assert model.config.window == 8


@pytest.mark.clause("ARB-SCHED-001", "ARB-SCHED-002")
@pytest.mark.parametrize("trainer", trainers())
def test_gains_follow_the_schedule(runs: Runs, updates: list[dict[str, Any]], trainer: str) -> None:
    """With the trainer's own cooldown, and with one that was asked for."""
    for cooldown, flags in (6 if trainer in DATA else 8, ()), (4, ("--cooldown", "40")):
        updates.clear()
        given = ("--no-save", "--steps", "10", "--gain", "1.5", "--scale-gain", "0.25")
        assert runs(trainer, *given, *flags) == 0
        left = [min(10 - n, cooldown) for n in range(10)]
        assert [call["gain"] for call in updates] == [98_304 * steps // cooldown for steps in left]
        assert [call["scale_gain"] for call in updates] == [16_384 * max(6 - n, 0) // 6 for n in range(10)]


@pytest.mark.clause("ARB-STATE-001", "ARB-MODEL-001")
@pytest.mark.parametrize("trainer", trainers())
def test_bfloat16_is_of_a_twin(
    runs: Runs, updates: list[dict[str, Any]], capfd: pytest.CaptureFixture[str], trainer: str
) -> None:
    """A ternary model has no products of floats: it is said, and nothing is trained."""
    assert runs(trainer, "--no-save", "--dtype", "bfloat16") == 2
    assert "--dtype is of a --baseline: a ternary model multiplies integers" in capfd.readouterr().err
    assert not updates


@pytest.mark.clause("ARB-LIN-006")
@pytest.mark.parametrize("trainer", trainers())
def test_positions_are_the_tokens_of_an_update(
    runs: Runs, trainer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is refused for having too many is what a layer of the trunk captures."""
    honest, found = loop.Trainer._step, []

    def step(trainer: Any) -> None:
        update, up = trainer.learner.update, trainer.learner.model.blocks[0].up

        def spy(*arguments: Any) -> Any:
            found.append((sum(len(capture.dy) for capture in up.captures), trainer.task.positions))
            return update(*arguments)

        trainer.learner.update = spy
        honest(trainer)
        trainer.learner.update = update

    monkeypatch.setattr(loop.Trainer, "_step", step)
    assert runs(trainer, "--no-save") == 0
    assert len(found) == 3
    assert all(captured == positions for captured, positions in found)


@pytest.mark.clause("ARB-MOE-004")
@pytest.mark.parametrize("trainer", text_trainers())
def test_experts_are_balanced_and_measured(
    runs: Runs, updates: list[dict[str, Any]], trainer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weight of the balance is a part of the run; passes and shares of experts on the validation part
    alone stand beside the loss."""
    honest, choices = ARBModel.take_expert_use, []

    def spy(model: ARBModel) -> Any:
        used = honest(model)
        choices.append(sum(sum(use.choices) for use in used))
        return used

    monkeypatch.setattr(ARBModel, "take_expert_use", spy)
    digests = set()
    for balance in ("0", "1"):
        flags = ("--experts", "3", "--top-k", "1", "--balance", balance, "--accum-threshold", "2")
        assert runs(trainer, *flags, "--steps", "6", "--eval-interval", "3", "--run", balance) == 0
        digests.add(state_hash(updates[-1]["model"].state_dict()))
        measured = [
            line for line in read_lines(runs.folder / balance / "metrics.jsonl") if "val_loss" in line
        ]
        assert [line["iterations"] for line in measured] == [1.0, 1.0]
        for line in measured:
            (use,) = line["experts"]
            assert len(use["shares"]) == 3
            assert max(use["shares"]) == line["busiest expert"]
            assert use["iterations"] == 1.0
            assert 0 <= line["evenness"] <= 1
    assert len(digests) == 2
    assert choices[1::2] == [16] * 4  # of a batch of 2 x 8 bytes; before each, those of training
