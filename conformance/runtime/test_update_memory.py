"""The optimiser step: when it calls backward, when it skips, that it forgets its captures, and that its
report is true."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine import models
from arbitor.conformance.machine.models import backward, changed, hash_of, loss_of, snapshot
from arbitor.update import UpdateReport, ternary_modules, update_memory


class Untouchable(torch.autograd.Function):
    """The identity; its backward raises."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> None:
        raise OSError("backward was called")


def untouchable(target: Target, value: float = 1.0) -> torch.Tensor:
    x = torch.tensor(value, device=target.device, requires_grad=True)
    result: torch.Tensor = Untouchable.apply(x)  # type: ignore[no-untyped-call]
    return result


def captured_model(target: Target, **config: Any) -> Any:
    """A model in which every module has a capture."""
    model = models.model_of(target, **config)
    backward(loss_of(model, models.bytes_of(target, 2, 9)))
    return model


def captures(model: nn.Module) -> int:
    modules = ternary_modules(model).values()
    assert all(module.next_number(1) == 0 for module in modules if not module.captures)
    return sum(len(module.captures) for module in modules)


@pytest.mark.clause("ARB-RUN-001")
@pytest.mark.parametrize("given", ["mapping", "list", "tensor"])
def test_no_backward_where_captures_exist(
    target: Target, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by way of a component, whose backward would raise, nor by any call of it."""
    model, twin = captured_model(target), captured_model(target)
    component = untouchable(target)

    def forbidden(*arguments: Any, **named: Any) -> None:
        raise OSError("backward was called")

    monkeypatch.setattr(torch.Tensor, "backward", forbidden)
    monkeypatch.setattr(torch.autograd, "backward", forbidden)
    components: Any = {"mapping": {"a": component}, "list": [component, component], "tensor": component}[
        given
    ]
    report = model._ternary_update_memory(components)
    assert report.modules_updated == 6
    twin._ternary_update_memory()
    assert hash_of(model) == hash_of(twin)


@pytest.mark.clause("ARB-RUN-001")
@pytest.mark.parametrize("given", ["mapping", "list", "tensor"])
def test_one_backward_of_the_sum_where_none_exist(
    target: Target, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, twin = models.model_of(target), models.model_of(target)
    honest: Any = torch.Tensor.backward
    calls: list[torch.Tensor] = []

    def counted(self: torch.Tensor, *arguments: Any, **named: Any) -> None:
        calls.append(self)
        honest(self, *arguments, **named)

    monkeypatch.setattr(torch.Tensor, "backward", counted)
    tokens = models.bytes_of(target, 2, 9)
    loss = loss_of(model, tokens)
    parts = [loss] if given == "tensor" else [loss, loss * 0.5, model(tokens[:, :4]).square().mean()]
    reached: list[int] = []
    for index, part in enumerate(parts):
        part.register_hook(lambda gradient, index=index: reached.append(index))
    components: Any = {"mapping": dict(enumerate(parts)), "list": parts, "tensor": loss}[given]
    report = model._ternary_update_memory(components)
    assert len(calls) == 1
    assert sorted(reached) == list(range(len(parts)))
    assert report.modules_updated == 6

    loss = loss_of(twin, tokens)
    honest(loss if given == "tensor" else loss + loss * 0.5 + twin(tokens[:, :4]).square().mean())
    twin._ternary_update_memory()
    assert hash_of(model) == hash_of(twin)


@pytest.mark.clause("ARB-RUN-001")
def test_nothing_to_update_from(target: Target) -> None:
    model = models.model_of(target)
    before = snapshot(model)
    empty: tuple[Any, ...] = (None, [], {})
    for nothing in empty:
        with pytest.raises(RuntimeError, match="nothing to update from"):
            model._ternary_update_memory(nothing, loss_signal=1.0)
    with pytest.raises(RuntimeError, match="no graph"):
        model._ternary_update_memory(torch.ones((), device=target.device))
    with pytest.raises(RuntimeError, match="reached no ternary module"):
        model._ternary_update_memory(torch.ones((), device=target.device, requires_grad=True))
    assert changed(before, snapshot(model)) == []


def raise_in_component(model: Any, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ternary_modules(model).values():
        module.clear_captures()
    logits = model(models.bytes_of(target, 2, 8))  # the modules are numbered, and half of the captures made
    model._ternary_update_memory([logits.sum(), untouchable(target)])


def raise_in_argument(model: Any, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    model._ternary_update_memory({"a": untouchable(target), "b": "no tensor"})


def raise_in_prepare(model: Any, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.head, "prepare", lambda: untouchable(target).backward())
    model._ternary_update_memory()


def raise_in_backend(model: Any, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> None:
        raise OSError("the device is gone")

    monkeypatch.setattr(target.backend, "linear_update", broken)
    model._ternary_update_memory()


def raise_in_setting(model: Any, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    model._ternary_update_memory(gain=-1)


@pytest.mark.clause("ARB-RUN-006")
@pytest.mark.parametrize(
    ("fail", "error"),
    [
        (raise_in_component, OSError),
        (raise_in_argument, AttributeError),
        (raise_in_prepare, OSError),
        (raise_in_backend, OSError),
        (raise_in_setting, ValueError),
    ],
)
def test_captures_are_cleared_after_an_exception(
    target: Target, fail: Callable[..., None], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = captured_model(target)
    assert captures(model) == 6
    with pytest.raises(error), monkeypatch.context() as patch:
        fail(model, target, patch)
    assert captures(model) == 0


@pytest.mark.clause("ARB-RUN-006", "ARB-RNG-006")
def test_captures_are_cleared_after_an_update(target: Target) -> None:
    """The next step begins at token 0: it is the step of a model that was loaded in between."""
    model, loaded = captured_model(target), models.model_of(target, seed=5)
    model._ternary_update_memory()
    assert captures(model) == 0
    loaded.load_state_dict(model.state_dict())
    for each in (model, loaded):
        backward(loss_of(each, models.bytes_of(target, 2, 9, seed=1)))
        each._ternary_update_memory()
    assert hash_of(model) == hash_of(loaded)


NOT_FINITE = [float("nan"), float("inf"), -float("inf")]


@pytest.mark.clause("ARB-RUN-005", "ARB-RUN-006", "ARB-RUN-007")
@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize("where", ["reconstruction", "loss_components[1]", "loss", "loss_signal", "beside"])
def test_a_value_that_is_not_finite_skips(target: Target, where: str, value: float) -> None:
    """Whether captures exist or not; the report names it, no backward is called, nothing changes."""
    good, bad = untouchable(target), untouchable(target, value)
    arguments: Any = {
        "reconstruction": ({"text": good, where: bad},),
        "loss_components[1]": ([good, bad],),
        "loss": (bad,),
        "loss_signal": (None, value),
        "beside": ({"text": good, where: bad}, 1.0),
    }[where]
    for model in (captured_model(target), models.model_of(target)):
        before = snapshot(model)
        report = model._ternary_update_memory(*arguments)
        assert report.skipped is not None
        assert report.skipped.startswith(f"{where} is not finite")
        assert str(value) in report.skipped
        assert_skipped(report, before, model)


@pytest.mark.clause("ARB-RUN-001", "ARB-RUN-005")
@pytest.mark.parametrize("captured", [True, False])
@pytest.mark.parametrize("value", [0.5, *NOT_FINITE])
def test_a_component_without_a_graph_is_looked_at(target: Target, captured: bool, value: float) -> None:
    """A detached measure beside the loss: it gets no gradient, and decides with the others."""
    model, twin = models.model_of(target), captured_model(target)
    twin._ternary_update_memory()
    before = snapshot(model)
    loss = loss_of(model, models.bytes_of(target, 2, 9))
    if captured:
        backward(loss)
    measure = torch.tensor([value, 1.0], device=target.device)
    report = model._ternary_update_memory({"loss": loss, "measure": measure})
    if value == 0.5:
        assert report.modules_updated == 6
        assert hash_of(model) == hash_of(twin)
    else:
        assert report.skipped == f"measure is not finite ({value})"
        assert_skipped(report, before, model)


def assert_skipped(report: UpdateReport, before: models.State, model: nn.Module) -> None:
    assert "skipped" in str(report)
    assert report.modules_updated == 0
    assert set(report.totals().values()) == {0}
    assert changed(before, snapshot(model)) == []
    assert captures(model) == 0


def poisoning(value: float, count: int = 1) -> Callable[[torch.Tensor], torch.Tensor]:
    def hook(gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.clone()
        gradient.view(-1)[:count] = value
        return gradient

    return hook


@pytest.mark.clause("ARB-RUN-005", "ARB-RUN-006", "ARB-RUN-007", "ARB-QUANT-007")
@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize("poisoned", ["first", "last", "rows"])
def test_a_poisoned_gradient_skips_every_module(target: Target, poisoned: str, value: float) -> None:
    """One element is enough, in whichever module; the report names the module."""
    parts = {"rows": models.table(target), "first": models.linear(target, tensor_id=1)}
    group = nn.ModuleDict(parts | {"last": models.linear(target, columns=10, tensor_id=2)})
    tokens = models.bytes_of(target, 5, high=9)
    for attempt in range(2):  # the second, without the hook, is an update as if the first had not been
        before = snapshot(group)
        outputs = {"rows": group["rows"](tokens)}
        outputs["first"] = group["first"](outputs["rows"].detach())
        outputs["last"] = group["last"](outputs["first"].detach())
        if attempt == 0:
            outputs[poisoned].register_hook(poisoning(value))
        backward(torch.stack([y.square().sum() for y in outputs.values()]).sum())
        report = update_memory(group, loss_signal=1.0)
        if attempt == 0:
            assert report.skipped == f"gradient of {poisoned} is not finite"
            assert_skipped(report, before, group)
        else:
            assert report.modules_updated == 3


@pytest.mark.clause("ARB-RUN-005", "ARB-QUANT-010", "ARB-LIN-004")
def test_what_overflows_on_the_way_skips(target: Target) -> None:
    """A finite gradient times a finite scale that is no float32, and an input that is no number."""
    for x, dy in ((1e38, 1e38), (float("nan"), 1.0)):
        layer = models.linear(target)
        before = snapshot(layer)
        y = layer(torch.full((3, 12), x, device=target.device))
        backward(y, gradient=torch.full_like(y, dy))
        report = update_memory(layer)
        assert report.skipped == "gradient of TernaryLinear is not finite"
        assert_skipped(report, before, layer)
