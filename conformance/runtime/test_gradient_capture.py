"""Gradient capture: what backward leaves with the modules, that it holds no graph, and that every call of a
step counts."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from arbitor.components import TernaryModule
from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine import models
from arbitor.conformance.machine.models import backward, changed, hash_of, loss_of, noise, snapshot
from arbitor.update import ternary_modules, update_memory

Calls = Callable[[TernaryModule, list[torch.Tensor]], list[torch.Tensor]]


def captured_tensors(module: TernaryModule) -> list[torch.Tensor]:
    return [
        value
        for capture in module.captures
        for value in vars(capture).values()
        if isinstance(value, torch.Tensor)
    ]


@contextmanager
def create_graph_allowed() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using backward.. with create_graph=True")
        yield


@pytest.mark.clause("ARB-RUN-001")
def test_captured_in_backward_and_not_before(target: Target) -> None:
    model = models.model_of(target)
    before = snapshot(model)
    loss = loss_of(model, models.bytes_of(target, 2, 9))
    modules = ternary_modules(model).values()
    assert [len(module.captures) for module in modules] == [0] * len(modules)
    backward(loss)
    assert [len(module.captures) for module in modules] == [1] * len(modules)
    assert changed(before, snapshot(model)) == []


@pytest.mark.clause("ARB-RUN-001")
@pytest.mark.parametrize("create_graph", [False, True])
def test_captures_are_detached(target: Target, create_graph: bool) -> None:
    """Also where the output gradient itself has a graph, which create_graph gives it."""
    layer, rows = models.linear(target), models.table(target)
    x = noise(target, 5, 12).requires_grad_()
    y, z = layer(x), rows(models.bytes_of(target, 5, high=9))
    with create_graph_allowed():
        backward(y.square().sum() + z.square().sum(), create_graph=create_graph)
    for module in (layer, rows):
        tensors = captured_tensors(module)
        assert len(tensors) >= 2
        assert all(tensor.grad_fn is None and not tensor.requires_grad for tensor in tensors)


@pytest.mark.clause("ARB-RUN-001")
def test_captures_hold_no_graph(target: Target) -> None:
    """A hook lives as long as the graph: it dies with the loss although captures are there."""

    class Hook:
        def __call__(self, gradient: torch.Tensor) -> None: ...

    layer = models.linear(target)
    hook = Hook()
    alive = weakref.ref(hook)
    y = layer(noise(target, 5, 12).requires_grad_())
    y.register_hook(hook)
    loss = y.square().sum()
    backward(loss)
    del hook, y
    gc.collect()
    assert alive() is not None, "the loss holds the graph, so the hook must live"
    del loss
    gc.collect()
    assert layer.captures
    assert alive() is None


def one_by_one(module: TernaryModule, parts: list[torch.Tensor]) -> list[torch.Tensor]:
    """Calls in one forward, one backward over all of them: autograd comes to the last call first."""
    outputs = [module(part) for part in parts]
    backward(weighted(outputs))
    return outputs


def microbatches(module: TernaryModule, parts: list[torch.Tensor]) -> list[torch.Tensor]:
    """Each call has its backward before the next call."""
    outputs, done = [], 0
    for part in parts:
        outputs.append(module(part))
        backward(weighted(outputs[-1:], done))
        done += len(part)
    return outputs


def backwards_reversed(module: TernaryModule, parts: list[torch.Tensor]) -> list[torch.Tensor]:
    """Forwards in order, backwards from the last to the first."""
    outputs = [module(part) for part in parts]
    starts = [sum(map(len, parts[:i])) for i in range(len(parts))]
    for start, output in reversed(list(zip(starts, outputs, strict=True))):
        backward(weighted([output], start))
    return outputs


def weighted(outputs: list[torch.Tensor], first: int = 0) -> torch.Tensor:
    """A loss whose gradient at row t of all rows is row t of a fixed matrix, whatever the calls."""
    y = torch.cat(outputs)
    return (y * _weights(y)[first : first + len(y)]).sum()


def _weights(y: torch.Tensor) -> torch.Tensor:
    return torch.randn(100, y.shape[1], generator=torch.Generator().manual_seed(7)).to(y.device)


PARTS = (4, 1, 12)
# with the order in which their backwards come, by which tokens are numbered
CALLS = [(one_by_one, (2, 1, 0)), (microbatches, (0, 1, 2)), (backwards_reversed, (2, 1, 0))]


def in_order(rows: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:
    """The parts of the rows in that order."""
    parts = rows.split(list(PARTS))
    return torch.cat([parts[place] for place in order])


@pytest.mark.clause("ARB-RUN-003", "ARB-RNG-006", "ARB-LIN-005")
@pytest.mark.parametrize(("calls", "order"), CALLS)
def test_several_calls_of_a_layer_are_one(target: Target, calls: Calls, order: tuple[int, ...]) -> None:
    """Outputs, input gradients and the whole state are those of one call with all rows, in the order of the
    backwards."""
    whole, parted = models.linear(target, tensor_id=3, seed=9), models.linear(target, tensor_id=3, seed=9)
    for step in range(4):
        x = noise(target, 17, 12, seed=step)
        one = in_order(x, order).requires_grad_()
        y = whole(one)
        backward((y * in_order(_weights(y)[:17], order)).sum())
        pieces = [piece.clone().requires_grad_() for piece in x.split(list(PARTS))]
        outputs = calls(parted, pieces)
        assert torch.equal(torch.cat([outputs[place] for place in order]), y)
        gradients = [
            piece.grad for piece in (one, *(pieces[place] for place in order)) if piece.grad is not None
        ]
        assert len(gradients) == 4
        assert torch.equal(torch.cat(gradients[1:]), gradients[0])
        assert len(parted.captures) == 3
        reports = update_memory(whole), update_memory(parted)
        assert reports[0].totals() == reports[1].totals()
        assert reports[0].totals()["flips"] > 0
        assert hash_of(whole) == hash_of(parted)


@pytest.mark.clause("ARB-RUN-003", "ARB-RNG-006", "ARB-EMB-002")
@pytest.mark.parametrize(("calls", "order"), CALLS)
def test_several_calls_of_a_table_are_one(target: Target, calls: Calls, order: tuple[int, ...]) -> None:
    whole, parted = models.table(target, tensor_id=3), models.table(target, tensor_id=3)
    for step in range(4):
        tokens = models.bytes_of(target, 17, high=7, seed=step)
        y = whole(in_order(tokens, order))
        backward((y * in_order(_weights(y)[:17], order)).sum())
        calls(parted, list(tokens.split(list(PARTS))))
        update_memory(whole)
        assert update_memory(parted).totals()["votes"] > 0
        assert hash_of(whole) == hash_of(parted)


@pytest.mark.clause("ARB-RUN-003", "ARB-RUN-008")
def test_every_microbatch_counts(target: Target) -> None:
    """The update from two microbatches is not the update from either."""
    ends = []
    for seeds in ((0, 1), (0,), (1,)):
        model = models.model_of(target)
        for seed in seeds:
            backward(loss_of(model, models.bytes_of(target, 2, 9, seed=seed)))
        model._ternary_update_memory()
        ends.append(hash_of(model))
    assert len(set(ends)) == 3


@pytest.mark.clause("ARB-RUN-001", "ARB-RUN-006")
def test_an_update_takes_the_captures_and_calls_no_backward(target: Target) -> None:
    """Though it is given the loss, whose graph still stands; afterwards nothing is left to update from."""
    model, twin = models.model_of(target), models.model_of(target)
    passed: list[torch.Tensor] = []
    losses = [loss_of(each, models.bytes_of(target, 2, 9)) for each in (model, twin)]
    for loss in losses:
        backward(loss, retain_graph=True)
    losses[0].register_hook(passed.append)
    report = model._ternary_update_memory([losses[0]], losses[0])
    assert report.modules_updated == len(ternary_modules(model))
    assert passed == []
    assert not any(module.captures for module in ternary_modules(model).values())
    twin._ternary_update_memory()
    assert hash_of(model) == hash_of(twin)
    with pytest.raises(RuntimeError, match="nothing to update from"):
        model._ternary_update_memory()
    assert hash_of(model) == hash_of(twin)


@pytest.mark.clause("ARB-RUN-004")
def test_a_second_backward_raises(target: Target) -> None:
    """It captures nothing more, and what the first one captured is as good as before."""
    model, twin = models.model_of(target), models.model_of(target)
    tokens = models.bytes_of(target, 2, 9)
    for each in (model, twin):
        loss = loss_of(each, tokens)
        backward(loss, retain_graph=True)
        if each is model:
            with pytest.raises(RuntimeError, match="second backward through the same forward of head"):
                backward(loss)
        each._ternary_update_memory()
    assert hash_of(model) == hash_of(twin)


@pytest.mark.clause("ARB-RUN-004")
def test_a_backward_of_a_backward_raises(target: Target) -> None:
    x = noise(target, 5, 12).requires_grad_()
    y = models.linear(target)(x)
    (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        backward(gradient.square().sum())


@pytest.mark.clause("ARB-RUN-004")
def test_a_backward_after_the_update_raises(target: Target) -> None:
    """Its forward saw other weights: nothing is captured, nothing changes."""
    layer = models.linear(target)
    stale = layer(noise(target, 5, 12))
    backward(layer(noise(target, 5, 12, seed=1)).square().sum())
    update_memory(layer)
    before = snapshot(layer)
    with pytest.raises(RuntimeError, match="updated between this forward and its backward"):
        backward(stale.sum())
    assert layer.captures == []
    assert changed(before, snapshot(layer)) == []


@pytest.mark.clause("ARB-RUN-012")
@pytest.mark.parametrize("called", [False, True])
def test_a_module_that_is_not_reached_is_left(target: Target, called: bool) -> None:
    """Not called, or called and not part of the loss."""
    pair = nn.ModuleDict({"used": models.linear(target), "idle": models.linear(target, tensor_id=1)})
    before = snapshot(pair)
    x = noise(target, 5, 12)
    if called:
        pair["idle"](x)
    backward(pair["used"](x).square().sum())
    report = update_memory(pair)
    assert list(report.counts_of) == ["used"]
    names = changed(before, snapshot(pair))
    assert "used.t_accum" in names
    assert not [name for name in names if name.startswith("idle")]
    assert [module.updates for module in ternary_modules(pair).values()] == [1, 0]


@pytest.mark.clause("ARB-RUN-001")
def test_nothing_is_captured_without_gradients(target: Target) -> None:
    model = models.model_of(target)
    with torch.no_grad():
        loss = loss_of(model, models.bytes_of(target, 2, 9))
    with pytest.raises(RuntimeError, match="no graph"):
        model._ternary_update_memory(loss)
    assert not any(module.captures for module in ternary_modules(model).values())


@pytest.mark.clause("ARB-STATE-007", "ARB-RUN-004")
def test_captures_of_an_old_device_go(target: Target) -> None:
    """With their numbers; a forward from before has no backward. A move to where it is changes nothing."""

    def begun() -> tuple[TernaryModule, torch.Tensor]:
        layer = models.linear(target)
        stale = layer(noise(target, 5, 12))
        backward(layer(noise(target, 5, 12)).square().sum())
        return layer, stale

    stays: list[Callable[[nn.Module], object]] = [
        *(nn.Module.float, nn.Module.half),
        lambda module: module.to(target.device),
        lambda module: module.type(torch.float64),
    ]
    moves: list[Callable[[nn.Module], object]] = [
        lambda module: module.to("meta"),
        lambda module: module.to_empty(device=target.device),
    ]
    layer, stale = begun()
    for stay in stays:
        stay(layer)
    assert [capture.first_row for capture in layer.captures] == [0]
    backward(stale.square().sum())
    assert len(layer.captures) == 2
    for move in moves:
        layer, stale = begun()
        move(layer)
        assert layer.captures == []
        assert layer.next_number(1) == 0
        with pytest.raises(RuntimeError, match="was moved between this forward and its backward"):
            backward(stale.square().sum())
        assert layer.captures == []
