"""The loss signal decides whether an update happens, and nothing else: no gradient flows from it, no vote is
scaled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine import models
from arbitor.conformance.machine.models import backward, hash_of, loss_of

Signal = Callable[[torch.Tensor], Any]
SIGNALS: dict[str, Signal] = {
    "none": lambda loss: None,
    "zero": lambda loss: 0.0,
    "small": lambda loss: 0.125,
    "an int": lambda loss: 3,
    "negative": lambda loss: -5.0,
    "huge": lambda loss: 1e300,
    "the loss": lambda loss: loss,
    "detached": lambda loss: loss.detach(),
    "float16": lambda loss: loss.detach().half(),
    "a vector": lambda loss: loss.detach().expand(3),
    "on the CPU": lambda loss: loss.detach().cpu(),
}


def stepped(target: Target, signal: Signal) -> str:
    """State hash after three updates with that signal."""
    model = models.model_of(target)
    for step in range(3):
        loss = loss_of(model, models.bytes_of(target, 2, 9, seed=step))
        backward(loss)
        gain = 2 << 16 if step else None
        assert model._ternary_update_memory(loss_signal=signal(loss), gain=gain).skipped is None
    return hash_of(model)


@pytest.mark.clause("ARB-RUN-002")
@pytest.mark.parametrize("name", [name for name in SIGNALS if name != "none"])
def test_every_finite_signal_gives_the_same_update(target: Target, name: str) -> None:
    assert stepped(target, SIGNALS[name]) == stepped(target, SIGNALS["none"])


@pytest.mark.clause("ARB-RUN-002", "ARB-RUN-001")
@pytest.mark.parametrize("captured", [True, False])
def test_a_signal_with_a_graph_gets_no_gradient(target: Target, captured: bool) -> None:
    """Neither where backward has been called, nor where the update calls it on the components."""
    model = models.model_of(target)
    leaf = torch.ones((), device=target.device, requires_grad=True)
    reached: list[torch.Tensor] = []
    signal = leaf * 2
    signal.register_hook(reached.append)
    loss = loss_of(model, models.bytes_of(target, 2, 9))
    if captured:
        backward(loss)
    report = model._ternary_update_memory(None if captured else [loss], signal)
    assert report.modules_updated == 6
    assert leaf.grad is None
    assert reached == []
    assert signal.requires_grad  # the caller's tensor is as it was
    backward(signal)
    assert leaf.grad is not None  # and its graph still stands


@pytest.mark.clause("ARB-RUN-002")
def test_a_signal_is_no_component(target: Target) -> None:
    """With a signal alone there is nothing to go backward from, even if it has a graph."""
    model = models.model_of(target)
    with pytest.raises(RuntimeError, match="nothing to update from"):
        model._ternary_update_memory(loss_signal=loss_of(model, models.bytes_of(target, 2, 9)))
