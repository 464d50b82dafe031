"""Layers as people make, call, cast and copy them: right, or refused in one sentence."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import arbitor
from arbitor.conformance.api.gpt import Lost, batches, lose_it, loss_of, made, train
from arbitor.conformance.judge.target import Target
from arbitor.gradients import capture


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


def test_a_model_is_copied_and_pickled(target: Target) -> None:
    """Also with what a backward that failed has left."""
    model = made(target.device, target.backend.name)
    handle = model.blocks[0].norm2.register_full_backward_hook(lose_it)
    with pytest.raises(Lost):
        loss_of(model, next(batches(target.device, 1))).backward()
    handle.remove()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert train(other) == train(copy.deepcopy(model))
