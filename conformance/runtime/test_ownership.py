"""What is captured belongs to the module: whatever a caller does to tensors of theirs between two calls, the
update is the one of the calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from arbitor.components import TernaryEmbeddingTable, TernaryLinear
from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine import models
from arbitor.conformance.machine.models import backward, hash_of, noise
from arbitor.kernels.registry import why_not_auto
from arbitor.main import ARBModel
from arbitor.schedule import UpdateRule
from arbitor.update import update_memory

Held = dict[str, torch.Tensor]
Calls = Callable[[Any, Target, int], Iterator[Held]]


def resizable(tensor: torch.Tensor) -> bool:
    """An output in memory that NumPy made is not."""
    return bool(tensor.untyped_storage().resizable())


ACTS: dict[str, Callable[[torch.Tensor], Any]] = {
    "zero_": lambda tensor: tensor.zero_(),
    "fill_": lambda tensor: tensor.fill_(3),
    "another batch": lambda tensor: tensor.copy_(tensor.flip(0)),
    "half of it": lambda tensor: tensor.view(-1)[: tensor.numel() // 2].zero_(),
    "neg_ and add_": lambda tensor: tensor.neg_().add_(8),
    "resize_": lambda tensor: resizable(tensor) and tensor.resize_(4 * tensor.numel()).zero_(),
    "its memory freed": lambda tensor: resizable(tensor) and tensor.untyped_storage().resize_(0),
}


def linear_calls(layer: TernaryLinear, target: Target, seed: int) -> Iterator[Held]:
    """A forward and a backward; at each yield all that the caller has hold of then."""
    x, given = noise(target, 5, 12, seed=seed).requires_grad_(), noise(target, 5, 10, seed=seed + 50)
    y = layer(x)
    in_hook: list[torch.Tensor] = []
    y.register_hook(in_hook.append)
    y.retain_grad()
    yield {"input": x, "output": y}
    backward(y, gradient=given)
    assert x.grad is not None
    assert y.grad is not None
    yield {"input": x, "output": y, "given": given, "retained": y.grad, "dx": x.grad} | hooked(in_hook)


def table_calls(table: TernaryEmbeddingTable, target: Target, seed: int) -> Iterator[Held]:
    """Likewise of a table."""
    tokens, given = models.bytes_of(target, 5, high=9, seed=seed), noise(target, 5, 12, seed=seed + 50)
    y = table(tokens)
    in_hook: list[torch.Tensor] = []
    y.register_hook(in_hook.append)
    yield {"input": tokens, "output": y}
    backward(y, gradient=given)
    yield {"input": tokens, "output": y, "given": given} | hooked(in_hook)


def model_calls(model: ARBModel, target: Target, seed: int) -> Iterator[Held]:
    """Likewise of a model, where hooks give hold of what is between its modules."""
    tokens = models.bytes_of(target, 2, 6, seed=seed)
    inside: list[torch.Tensor] = []
    in_hook: list[torch.Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        output.register_hook(in_hook.append)
        inside.append(output)

    parts = [model.embedding, model.get_submodule("blocks.0.up")]
    hooks = [part.register_forward_hook(keep) for part in parts]
    logits = model(tokens)
    for hook in hooks:
        hook.remove()
    given = noise(target, *logits.shape, seed=seed + 50)
    yield {"input": tokens, "output": logits}
    backward(logits, gradient=given)
    between = {f"inside {place}": tensor for place, tensor in enumerate(inside)}
    yield {"input": tokens, "output": logits, "given": given} | between | hooked(in_hook)


def hooked(gradients: list[torch.Tensor]) -> Held:
    """Gradients that hooks were given: of an output that was written to before its backward there is none."""
    return {f"in hook {place}": gradient for place, gradient in enumerate(gradients)}


KINDS: dict[str, tuple[Callable[[Target], nn.Module], Calls]] = {
    "linear": (models.linear, linear_calls),
    "table": (models.table, table_calls),
    "model": (models.model_of, model_calls),
}


def trained(
    target: Target, kind: str, act: Callable[[torch.Tensor], Any] | None = None, which: str = ""
) -> str:
    """State hash after updates of two microbatches each, while `act` is done to the tensors whose name has
    `which` in it, whenever a call has given hold of them."""
    make, calls = KINDS[kind]
    module = make(target)
    for step in range(1 if kind == "model" else 2):
        for part in range(2):
            for held in calls(module, target, 2 * step + part):
                for name, tensor in held.items():
                    if act is not None and which in name:
                        act(tensor.detach())
        assert update_memory(module).totals()["flips"] > 0
    return hash_of(module)


@pytest.mark.clause("ARB-RUN-001", "ARB-RUN-003")
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_is_done_to_the_callers_tensors_shows(target: Target, kind: str) -> None:
    """Each tensor alone; of a model all at once."""
    make, calls = KINDS[kind]
    expected = trained(target, kind)
    names = {name for held in calls(make(target), target, 0) for name in held}
    slow = why_not_auto(target.backend.name, target.device) is not None
    for act in ("zero_", "another batch") if slow else ACTS:  # all of them take an interpreter minutes
        for which in [""] if kind == "model" else sorted(names):
            assert trained(target, kind, ACTS[act], which) == expected, (act, which)


@pytest.mark.clause("ARB-RUN-001")
def test_a_gradient_that_is_zeroed_before_the_update(target: Target) -> None:
    """128 gradients that are not 0, and so 128 votes of size 1."""
    layer = TernaryLinear(16, 8, group_size=16, backend=target.backend.name)
    layer.settings = UpdateRule(rule="sign")
    layer.to(target.device)
    y = layer(torch.ones(4, 16, device=target.device))
    given = torch.ones_like(y)
    backward(y, gradient=given)
    given.zero_()
    assert update_memory(layer).totals()["votes"] == 128


@pytest.mark.clause("ARB-RUN-001", "ARB-RUN-003")
@pytest.mark.parametrize("kind", KINDS)
def test_one_buffer_for_every_microbatch(target: Target, kind: str) -> None:
    """Filled anew before each forward, the backward of the one before done or not."""
    ends = set()
    for reuse, late in ((False, False), (True, False), (True, True)):
        module: Any = KINDS[kind][0](target)
        batches = [
            noise(target, 5, 12, seed=part)
            if kind == "linear"
            else models.bytes_of(target, 2, 6, high=9, seed=part)
            for part in range(3)
        ]
        buffer, outputs = torch.empty_like(batches[0]), []
        for batch in batches:
            outputs.append(module(buffer.copy_(batch) if reuse else batch))
            if not late:
                backward(outputs[-1].square().sum())
        for output in outputs if late else ():
            backward(output.square().sum())
        update_memory(module)
        ends.add(hash_of(module))
    assert len(ends) == 1


@pytest.mark.clause("ARB-RUN-001")
def test_an_offset_that_is_learned_beside_it(target: Target) -> None:
    """Its gradient is that of the layer's output, which torch may keep as it is; zero_grad writes to it."""
    ends = set()
    for zeroed in (False, True):
        layer = models.linear(target)
        offset = torch.zeros(5, 10, device=target.device, requires_grad=True)
        before = offset.view_as(offset)  # made before the forward, so that its backward comes after
        backward((layer(noise(target, 5, 12)) + before).square().sum())
        if zeroed:
            torch.optim.SGD([offset], lr=1.0).zero_grad(set_to_none=False)
        assert update_memory(layer).totals()["votes"] > 0
        ends.add(hash_of(layer))
    assert len(ends) == 1


@pytest.mark.clause("ARB-RUN-001")
def test_captured_memory_is_nobody_elses(target: Target) -> None:
    """Not that of a tensor the caller has, nor of the other captures."""
    for kind in ("linear", "table"):
        make, calls = KINDS[kind]
        module: Any = make(target)
        held = [
            tensor for seed in (0, 1) for moment in calls(module, target, seed) for tensor in moment.values()
        ]
        captured = [
            value
            for capture in module.captures
            for value in vars(capture).values()
            if isinstance(value, torch.Tensor)
        ]
        places = [tensor.untyped_storage().data_ptr() for tensor in captured]
        assert len(set(places)) == len(places) == (6 if kind == "linear" else 4)
        assert set(places) & {tensor.untyped_storage().data_ptr() for tensor in held} == set()
