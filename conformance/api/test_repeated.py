"""Forwards that are run again, and backwards that raised: checkpointing, memory that ran out."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import arbitor
from arbitor.checkpoint import state_hash
from arbitor.conformance.api.gpt import GPT, Lost, batches, lose_it, loss_of, made, train
from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine import models
from arbitor.runtime import configure_ternary_training
from arbitor.update import ternary_modules


@pytest.mark.clause("ARB-RNG-006", "ARB-RUN-003")
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("micro", [1, 2, 4])
def test_checkpointing(target: Target, reentrant: bool, times: int, micro: int) -> None:
    """Of blocks that begin with a ternary layer behind a norm, called once and twice."""
    how = target.device, target.backend.name
    ends = []
    for mode in (None, reentrant):
        model = made(*how, times=times, mode=mode)
        if times > 1:  # floats that are used twice get their gradients in another order of sums
            for parameter in model.parameters():
                parameter.requires_grad_(not parameter.numel())
            model.head.requires_grad_(True)
        ends.append(train(model, micro=micro))
    assert ends[0] == ends[1]


@pytest.mark.clause("ARB-RNG-006", "ARB-RUN-003", "ARB-MOE-001")
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("passes", [1, 2])
def test_checkpointing_of_experts(target: Target, reentrant: bool, passes: int) -> None:
    """Which are called several times inside of one block that is run again."""
    ends = []
    for mode in (None, reentrant):
        model = models.model_of(target, layers=2, experts=3, top_k=2, max_moe_iters=passes)
        configure_ternary_training(model, 2, 2, gain=8 << 16)
        for block in model.blocks if mode is not None else ():
            again: Any = block
            again.forward = partial(checkpoint, block.forward, use_reentrant=mode)
        for step in range(3):
            models.loss_of(model, models.bytes_of(target, 2, 9, seed=step)).backward()
            model._ternary_update_memory()
        ends.append(state_hash(model.state_dict()))
    assert ends[0] == ends[1]


@pytest.mark.clause("ARB-RUN-006", "ARB-RUN-001")
@pytest.mark.parametrize("depth", [0, 1])
def test_a_backward_that_raises_is_not_applied(target: Target, plain: str, depth: int) -> None:
    """Half of the modules had captured: out of memory, say, and caught. Nothing has to be cleared."""

    def lose(model: GPT, batch: torch.Tensor) -> None:
        handle = model.blocks[depth].norm2.register_full_backward_hook(lose_it)
        with pytest.raises(Lost):
            loss_of(model, batch).backward()
        handle.remove()
        model.head.zero_grad()
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.zero_grad()

    assert train(made(target.device, target.backend.name), before=lose) == plain
    model = made(target.device, target.backend.name)
    ternary = arbitor.TernaryOptimizer(model)
    lose(model, next(batches(target.device, 1)))
    with pytest.raises(RuntimeError, match="nothing to update from"):
        ternary.step()


@pytest.mark.clause("ARB-RUN-006")
@pytest.mark.parametrize("owned", [True, False])
def test_cleared_in_the_middle_of_a_backward(target: Target, owned: bool) -> None:
    """What was captured before is gone, also what its backward only counts at its end. Also where the
    parameter is another one that has no gradient, as in `fully_shard`."""
    model = made(target.device, target.backend.name)
    ternary = arbitor.TernaryOptimizer(model)
    if not owned:
        for module in ternary_modules(model).values():
            del module.trainable.is_arbitors  # type: ignore[attr-defined]
        loss_of(model, next(batches(target.device, 1))).backward()
        assert model.blocks[0].down.captures
        ternary.zero_grad()
        assert not model.blocks[0].down.captures
    model.blocks[1].norm2.register_full_backward_hook(lambda *_: ternary.zero_grad())
    loss_of(model, next(batches(target.device, 1))).backward()
    assert [bool(module.captures) for module in (model.blocks[1].down, model.blocks[1].up)] == [False, False]
    assert model.blocks[0].down.captures


@pytest.mark.clause("ARB-RUN-001", "ARB-RUN-004")
def test_a_backward_that_raised_may_be_repeated(target: Target) -> None:
    """Through the same graph: the modules behind the fault had captured, and nothing of that counts. One that
    came to its end may not."""
    ends = []
    for fails in (False, True):
        model = made(target.device, target.backend.name)
        ternary = arbitor.TernaryOptimizer(model, gain=8.0, accum_threshold=4)
        faults = [Lost()] if fails else []

        def once(*_: object, faults: list[Lost] = faults) -> None:
            if faults:
                raise faults.pop()

        model.blocks[0].norm2.register_full_backward_hook(once)
        loss = loss_of(model, next(batches(target.device, 1)))
        if fails:
            with pytest.raises(Lost):
                loss.backward(retain_graph=True)
        loss.backward(retain_graph=True)
        with pytest.raises(RuntimeError, match=r"second backward through the same forward of blocks"):
            loss.backward()
        assert ternary.step().modules_updated == 9
        ends.append(state_hash(model.state_dict()))
    assert ends[0] == ends[1]
