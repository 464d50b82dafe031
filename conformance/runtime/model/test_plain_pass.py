"""`max_moe_iters` = 1 is a plain pass: experts are chosen and added once, here by code without iterations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from arbitor.checkpoint import load_checkpoint
from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine import models
from arbitor.conformance.machine.models import backward, hash_of
from arbitor.conformance.training.trainers import CHECKPOINT, Runs
from arbitor.main import ARBModel
from arbitor.moe import MixtureOfExperts
from arbitor.training.recording.run_folder import RunFolder
from arbitor.update import ternary_modules

SHAPES: dict[str, dict[str, Any]] = {
    "one of three": {"experts": 3, "top_k": 1},
    "two of three, two layers": {"experts": 3, "top_k": 2, "layers": 2},
    "all of two": {"experts": 2, "top_k": 2},
}
STEPS = 4


class PlainPass(nn.Module):
    """The parts of a mixture in one pass of ARB-MOE-001, in which nothing repeats or halts."""

    def __init__(self, moe: Any) -> None:
        super().__init__()
        self.router, self.experts, self.top_k, self.work = moe.router, moe.experts, moe.top_k, moe.work

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x float32 [..., d] -> the same, changed by the experts."""
        rows = x.reshape(-1, x.shape[-1])
        h = self.work.norm(rows)
        p = self.work.softmax(self.router(h)[:, :-1])
        weights, chosen = (found[:, : self.top_k] for found in p.sort(dim=-1, descending=True, stable=True))
        if self.top_k > 1:
            weights = self.work.shares(weights)
        inputs = self.work.spread(h, self.top_k)
        changes = torch.zeros_like(inputs)
        for number, expert in enumerate(self.experts):
            where = (chosen == number).nonzero(as_tuple=True)
            if len(where[0]):
                changes = changes.index_put(where, expert(inputs[where]))
        changed: torch.Tensor = (rows + self.work.weighted(weights, changes)).view_as(x)
        return changed


def made_plain(model: ARBModel) -> ARBModel:
    """Every mixture of the model replaced, under the same names."""
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, MixtureOfExperts)]
    assert found
    for name, module in found:
        parent, _, child = name.rpartition(".")
        holder: Any = model.get_submodule(parent)
        setattr(holder, child, PlainPass(module))
    return model


def never_halting(router: Any) -> None:
    """Trits of 0 for the halting output: keep is then a half, with which a token goes on to a second pass."""
    router.codes[-1] = 0b01010101


@pytest.mark.clause("ARB-MOE-003")
@pytest.mark.parametrize("shape", SHAPES)
def test_one_iteration_is_a_plain_pass(target: Target, shape: str) -> None:
    """Outputs, losses, counts of every update and all state, over steps in which trits flip."""
    once = models.model_of(target, **SHAPES[shape], max_moe_iters=1)
    plain = made_plain(models.model_of(target, **SHAPES[shape], max_moe_iters=1))
    assert hash_of(once) == hash_of(plain)
    flips = 0
    for step in range(STEPS):
        tokens = models.bytes_of(target, 2, 9, seed=step, high=7)
        with torch.no_grad():
            assert torch.equal(once(tokens), plain(tokens))
        losses = [models.loss_of(model, tokens) for model in (once, plain)]
        assert losses[0].item() == losses[1].item()
        totals = []
        for model, loss in zip((once, plain), losses, strict=True):
            backward(loss)
            totals.append(model._ternary_update_memory(loss_signal=loss).totals())
        assert totals[0] == totals[1]
        flips += totals[0]["flips"]
        assert hash_of(once) == hash_of(plain)
    assert flips > 0
    for moe in once.modules():
        if isinstance(moe, MixtureOfExperts):
            moe.max_iters = 2
            never_halting(moe.router)
    with torch.no_grad():
        assert not torch.equal(once(tokens), plain(tokens)), "a second iteration would have been seen"


@pytest.mark.clause("ARB-MOE-003")
def test_the_halting_output_plays_no_part_in_updates(target: Target) -> None:
    """Its trits are others, and all other state takes the same steps; nobody votes for it."""
    shape = SHAPES["two of three, two layers"]
    first, second = (models.model_of(target, **shape, max_moe_iters=1) for _ in range(2))
    routers = [name for name in ternary_modules(second) if name.endswith("router")]
    assert len(routers) == 2
    for name in routers:
        never_halting(second.get_submodule(name))
    start = models.snapshot(second)
    for step in range(STEPS):
        for model in (first, second):
            backward(models.loss_of(model, models.bytes_of(target, 2, 9, seed=step, high=7)))
            model._ternary_update_memory()
    ends = models.snapshot(first), models.snapshot(second)
    assert models.changed(*ends) == [f"{name}.codes" for name in routers]
    for name in routers:
        codes = f"{name}.codes"
        assert torch.equal(ends[0][codes][:-1], ends[1][codes][:-1])
        assert torch.equal(ends[1][codes][-1], start[codes][-1])
        assert not ends[1][f"{name}.t_accum"][-1].any()
        assert ends[1][f"{name}.t_accum"][:-1].any()


@pytest.mark.clause("ARB-MOE-003")
def test_the_flag(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--max-moe-iters 1` is the trainers' default and reaches the model: 2 ends elsewhere."""
    monkeypatch.setattr(RunFolder, "plot", lambda *_: None)  # takes longer than all else here
    ends = {}
    for iterations in ("default", "1", "2"):
        flags = [] if iterations == "default" else ["--max-moe-iters", iterations]
        assert runs("pretrain.py", "--experts", "2", "--top-k", "1", "--run", iterations, *flags) == 0
        ends[iterations] = load_checkpoint(runs.folder / iterations / CHECKPOINT).digest
    assert ends["default"] == ends["1"]
    assert ends["1"] != ends["2"]
