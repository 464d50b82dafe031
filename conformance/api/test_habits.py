"""What people do around a training loop changes nothing, or is refused: hashes of whole states, compared."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import arbitor
from arbitor.checkpoint import state_hash
from arbitor.conformance.api.gpt import GPT, Between, batches, loss_of, made, train
from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine import models
from arbitor.gradients import capture
from arbitor.runtime import configure_ternary_training
from arbitor.update import ternary_modules


@pytest.fixture
def plain(target: Target) -> str:
    """The hash of the plain loop."""
    return train(made(target.device, target.backend.name))


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


class Lost(Exception):
    pass


def lose_it(*_: object) -> None:
    """A hook: out of memory, say."""
    raise Lost


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


@pytest.mark.clause("ARB-RNG-002")
def test_two_layers_of_default_arguments(target: Target) -> None:
    """Have random bits of their own, which torch's seed repeats."""
    how = {"backend": target.backend.name, "device": target.device}
    torch.manual_seed(5)
    layers = [arbitor.TernaryLinear(16, 16, **how) for _ in range(2)]
    torch.manual_seed(5)
    again = [arbitor.TernaryLinear(16, 16, **how) for _ in range(2)]
    assert not torch.equal(layers[0].codes, layers[1].codes)
    assert [layer.tensor_id for layer in layers] == [layer.tensor_id for layer in again]
    assert all(torch.equal(a.codes, b.codes) for a, b in zip(layers, again, strict=True))


@pytest.mark.clause("ARB-RNG-002")
def test_two_tensors_of_one_id_are_refused(target: Target) -> None:
    """At the first update, by their names, before anything changes."""
    layers = [arbitor.TernaryLinear(16, 16, tensor_id=3, backend=target.backend.name) for _ in range(2)]
    model = nn.Sequential(*layers).to(target.device)
    before = [layer.codes.clone() for layer in layers]
    model(torch.randn(4, 16, device=target.device)).square().sum().backward()
    with pytest.raises(ValueError, match="1 and 0 both have tensor_id 3 of seed 0"):
        arbitor.TernaryOptimizer(model).step()
    assert all(torch.equal(layer.codes, old) for layer, old in zip(layers, before, strict=True))


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


@pytest.mark.clause("ARB-RUN-001")
@pytest.mark.parametrize("way", [torch.no_grad, torch.inference_mode])
def test_nothing_is_kept_without_gradients(
    target: Target, way: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a backward that cannot come, also where the input requires grad."""
    layer = arbitor.TernaryLinear(16, 4, backend=target.backend.name, device=target.device)
    x = torch.ones(3, 16, device=target.device, requires_grad=True)
    began: list[Any] = []
    honest = capture.begin

    def begin(module: Any) -> int:
        began.append(module)
        return honest(module)

    monkeypatch.setattr(capture, "begin", begin)
    layer(x)
    assert began == [layer]
    with way():
        layer(x)
    assert began == [layer]


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
Error = type[Exception]
CALLS: list[tuple[Callable[[arbitor.TernaryLinear], object], Error, str]] = [
    (lambda layer: layer(torch.tensor(1.0)), ValueError, "last axis of x must be 16, got \\(\\)"),
    (lambda layer: layer(torch.ones(2, 15)), ValueError, "last axis of x must be 16, got \\(2, 15\\)"),
    (
        lambda layer: layer(torch.ones(2, 16, dtype=torch.complex64)),
        TypeError,
        "float dtype, got torch.complex64",
    ),
    (lambda layer: layer(torch.ones(2, 16, dtype=torch.int64)), TypeError, "float dtype, got torch.int64"),
]


@pytest.mark.clause("ARB-STATE-005")
@pytest.mark.parametrize(("call", "error", "words"), CALLS)
def test_wrong_inputs(target: Target, call: Callable[..., object], error: Error, words: str) -> None:
    layer = arbitor.TernaryLinear(16, 4, backend=target.backend.name)
    with pytest.raises(error, match=words):
        call(layer)


@pytest.mark.clause("ARB-STATE-007")
@pytest.mark.parametrize("move", [nn.Module.half, nn.Module.bfloat16, nn.Module.double])
def test_dtypes_stay(target: Target, move: Callable[[nn.Module], nn.Module]) -> None:
    model = made(target.device, target.backend.name)
    before = {name: tensor for name, tensor in model.state_dict().items() if not tensor.is_floating_point()}
    move(model)
    after = model.state_dict()
    assert all(
        torch.equal(after[name], tensor) and after[name].dtype == tensor.dtype
        for name, tensor in before.items()
    )


@pytest.mark.clause("ARB-STATE-005")
def test_no_tokens(target: Target) -> None:
    """An empty tensor, from which a backward may come."""
    how = {"backend": target.backend.name, "device": target.device}
    layer, table = arbitor.TernaryLinear(16, 4, **how), arbitor.TernaryEmbeddingTable(8, 16, **how)
    x = torch.ones(3, 0, 16, device=target.device, requires_grad=True)
    y = layer(x)
    assert (y.shape, y.dtype) == ((3, 0, 4), torch.float32)
    y.sum().backward()
    assert table(torch.ones(0, 2, dtype=torch.int64, device=target.device)).shape == (0, 2, 16)
    assert layer.captures == []


@pytest.mark.clause("ARB-RUN-001", "ARB-RUN-004")
def test_a_backward_that_raised_may_be_repeated(target: Target) -> None:
    """Through the same graph: the modules behind the fault had captured, and nothing of that counts."""
    ends = []
    for fails in (False, True):
        model = made(target.device, target.backend.name)
        ternary = arbitor.TernaryOptimizer(model, gain=8.0, accum_threshold=4)
        loss = loss_of(model, next(batches(target.device, 1)))
        if fails:
            handle = model.blocks[0].norm2.register_full_backward_hook(lose_it)
            loss = loss_of(model, next(batches(target.device, 1)))
            with pytest.raises(Lost):
                loss.backward(retain_graph=True)
            handle.remove()
            loss = loss_of(model, next(batches(target.device, 1)))
        loss.backward()
        with pytest.raises(RuntimeError, match=r"already captured|second time"):
            loss.backward()
        ternary.step()
        ends.append({name: t.tolist() for name, t in model.state_dict().items() if not t.is_floating_point()})
    assert ends[0] == ends[1]


def test_a_model_is_copied_and_pickled(target: Target) -> None:
    """Also with what a backward that failed has left."""
    model = made(target.device, target.backend.name)
    handle = model.blocks[0].norm2.register_full_backward_hook(lose_it)
    with pytest.raises(Lost):
        loss_of(model, next(batches(target.device, 1))).backward()
    handle.remove()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert train(other) == train(copy.deepcopy(model))
