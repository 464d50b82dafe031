"""What people do around a training loop changes nothing, or is refused: hashes of whole states, compared."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import arbitor
from arbitor.conformance.api.gpt import GPT, Between, batches, loss_of, made, train
from arbitor.conformance.judge.target import Target


def evaluate(model: GPT, batch: torch.Tensor) -> None:
    with torch.no_grad():
        loss_of(model, batch)


def evaluate_with_graph(model: GPT, batch: torch.Tensor) -> None:
    loss_of(model, batch)


def evaluate_inputs(model: GPT, batch: torch.Tensor) -> None:
    """Under no_grad, with an input that requires grad."""
    with torch.no_grad():
        model.blocks[0](torch.randn(2, 3, 16, device=batch.device, requires_grad=True))


def evaluate_often(model: GPT, batch: torch.Tensor) -> None:
    for _ in range(200):
        model.blocks[0].up(torch.ones(9, 16, device=batch.device))


def inference_mode(model: GPT, batch: torch.Tensor) -> None:
    with torch.inference_mode():
        loss_of(model, batch)


LOOKS: list[Between] = [
    evaluate, evaluate_with_graph, evaluate_inputs, evaluate_often, inference_mode,
]  # fmt: skip


@pytest.mark.clause("ARB-RNG-006", "ARB-RUN-001")
@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("when", ["before", "between"])
def test_looking_changes_nothing(target: Target, plain: str, look: Between, when: str) -> None:
    assert train(made(target.device, target.backend.name), **{when: look}) == plain  # type: ignore[arg-type]


@pytest.mark.clause("ARB-RUN-006")
def test_a_batch_that_is_thrown_away(target: Target, plain: str) -> None:
    """`zero_grad` forgets it."""

    def throw_away(model: GPT, batch: torch.Tensor) -> None:
        loss_of(model, batch.flip(0)).backward()
        for optimizer in (arbitor.TernaryOptimizer(model), torch.optim.SGD(model.parameters())):
            optimizer.zero_grad()
        arbitor.TernaryOptimizer(model, gain=8.0, accum_threshold=4)  # settings as they were

    assert train(made(target.device, target.backend.name), before=throw_away) == plain


def forget_by_the_module(model: GPT) -> None:
    model.zero_grad()


def forget_by_an_optimiser(model: GPT) -> None:
    torch.optim.AdamW(model.parameters()).zero_grad()


def forget_by_hand(model: GPT) -> None:
    for parameter in model.parameters():
        parameter.grad = None


@pytest.mark.clause("ARB-RUN-006")
@pytest.mark.parametrize("forget", [forget_by_the_module, forget_by_an_optimiser, forget_by_hand])
def test_gradients_are_forgotten_as_in_torch(
    target: Target, plain: str, forget: Callable[[GPT], None]
) -> None:
    """A batch is skipped in a loop that knows nothing of ternary layers."""

    def skip(model: GPT, batch: torch.Tensor) -> None:
        loss_of(model, batch.flip(0)).backward()
        forget(model)

    assert train(made(target.device, target.backend.name), before=skip) == plain
    model = made(target.device, target.backend.name)
    loss_of(model, next(batches(target.device, 1))).backward()
    forget(model)
    with pytest.raises(RuntimeError, match="nothing to update from"):
        arbitor.TernaryOptimizer(model).step()


def saliency_of_the_input(model: GPT, batch: torch.Tensor) -> None:
    x = torch.randn(2, 3, 16, device=batch.device, requires_grad=True)
    assert torch.autograd.grad(model.blocks[0](x).sum(), x)[0].abs().sum() > 0


def gradient_of_a_float(model: GPT, batch: torch.Tensor) -> None:
    (found,) = torch.autograd.grad(loss_of(model, batch), model.blocks[0].norm.weight)
    assert found.abs().sum() > 0


def backward_for_one(model: GPT, batch: torch.Tensor) -> None:
    x = torch.randn(2, 3, 16, device=batch.device, requires_grad=True)
    model.blocks[0](x).sum().backward(inputs=[x])


@pytest.mark.clause("ARB-RUN-006", "ARB-RNG-006")
@pytest.mark.parametrize("look", [saliency_of_the_input, gradient_of_a_float, backward_for_one])
@pytest.mark.parametrize("when", ["before", "between"])
def test_gradients_of_something_else(target: Target, plain: str, look: Between, when: str) -> None:
    """They pass through ternary layers, which are not what was asked for, also between two microbatches."""
    assert train(made(target.device, target.backend.name), **{when: look}) == plain  # type: ignore[arg-type]
    ends = [
        train(made(target.device, target.backend.name), micro=2, **how)  # type: ignore[arg-type]
        for how in ({}, {when: look})
    ]
    assert ends[0] == ends[1]


@pytest.mark.clause("ARB-RUN-014")
def test_a_frozen_part(target: Target) -> None:
    """No graph is built for it, nothing is captured, it stays as it is; what lies below it still learns."""
    model = made(target.device, target.backend.name)
    model.blocks[1].up.requires_grad_(False)
    model.table.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert not model.table(torch.zeros(1, 3, dtype=torch.int64, device=target.device)).requires_grad
    train(model)
    after = model.state_dict()
    changed = {name.rpartition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert {"blocks.1.up", "table"} & changed == set()
    assert {"blocks.0.up", "blocks.1.down", "blocks.0.qkv"} <= changed


def by_the_block(model: GPT) -> None:
    model.blocks[1].requires_grad_(False)


def by_its_parameters(model: GPT) -> None:
    for parameter in model.blocks[1].parameters():
        parameter.requires_grad = False


def after_a_backward(model: GPT) -> None:
    loss_of(model, next(batches(str(model.head.weight.device.type), 1))).backward()
    model.blocks[1].requires_grad_(False)


@pytest.mark.clause("ARB-RUN-014", "ARB-RUN-006")
@pytest.mark.parametrize("freeze", [by_the_block, by_its_parameters, after_a_backward])
def test_a_frozen_block(target: Target, freeze: Callable[[GPT], None]) -> None:
    """Ternary and float alike, however it is said; what was captured before is not applied."""
    model = made(target.device, target.backend.name)
    freeze(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if freeze is after_a_backward:
        assert arbitor.TernaryOptimizer(model).step().modules_updated == 5
    else:
        train(model)
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not [name for name in changed if name.startswith("blocks.1.")]
    assert any(name.startswith("blocks.0.") for name in changed)
    model.blocks[1].requires_grad_(True)
    train(model)
    assert any(not torch.equal(before[f"blocks.1.{n}.codes"], after[f"blocks.1.{n}.codes"]) for n in LAYERS)


LAYERS = ("qkv", "out", "up", "down")
