"""State keeps its dtypes and its bytes through everything that torch does to a model."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from arbitor.checkpoint import load_checkpoint, save_checkpoint
from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine import models
from arbitor.conformance.machine.models import backward, changed, hash_of, loss_of, snapshot
from arbitor.main import ARBModel
from arbitor.update import ternary_modules

DTYPES = {
    "codes": torch.uint8,
    "t_accum": torch.int8,
    "e": torch.int8,
    "e_accum": torch.int8,
    "moment": torch.int32,
    "corr_accum": torch.int16,
    "step_counter": torch.int32,
    "_extra_state": torch.int64,
}
CASTS: dict[str, Callable[[nn.Module], Any]] = {
    "half": lambda m: m.half(),
    "bfloat16": lambda m: m.bfloat16(),
    "float": lambda m: m.float(),
    "double": lambda m: m.double(),
    "to dtype": lambda m: m.to(torch.bfloat16),
    "to device and dtype": lambda m: m.to("cpu", torch.float16),
    "to like": lambda m: m.to(torch.zeros(1, dtype=torch.float64)),
    "type": lambda m: m.type(torch.float32),
    "type of few bits": lambda m: m.type(torch.float16),
    "type of another int": lambda m: m.type(torch.int8),
    "apply": lambda m: m._apply(lambda tensor: tensor.to(torch.float64)),
    "of the parts": lambda m: [part.type(torch.float32) for part in m.modules()],
    "train, eval, grad": lambda m: m.eval().train().requires_grad_(True).zero_grad(),
}


def trained(target: Target, steps: int = 3, **config: Any) -> ARBModel:
    """A model after a few steps, with the extremes of the wide accumulators in it."""
    model = models.model_of(target, **config)
    for step in range(steps):
        backward(loss_of(model, models.bytes_of(target, 2, 9, seed=step)))
        model._ternary_update_memory()
    rows: Any = model.embedding
    rows.corr_accum[0] = 32767  # no float16 holds it
    rows.corr_accum[1] = -32767
    rows.moment[0] = 2**31 - 1  # no float32 holds it
    rows.step_counter[2] = 2**31 - 1  # no float32 holds it
    return model


def assert_legal_dtypes(model: nn.Module) -> None:
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == DTYPES[name.rsplit(".", 1)[-1]], name
    for name, buffer in model.named_buffers():
        assert buffer.dtype == DTYPES[name.rsplit(".", 1)[-1]], name


@pytest.mark.clause("ARB-MODEL-001", "ARB-STATE-001")
def test_no_float_anywhere(target: Target) -> None:
    """No element of a parameter, no float buffer, no float in the state_dict; six arrays and seven integers
    a table."""
    model = trained(target)
    assert not any(p.numel() for p in model.parameters())
    assert not [name for name, tensor in model.state_dict().items() if tensor.is_floating_point()]
    assert_legal_dtypes(model)
    linear = {"codes", "t_accum", "e", "e_accum", "moment", "_extra_state"}
    assert set(model.head.state_dict()) == linear
    assert set(model.embedding.state_dict()) == linear - {"e_accum"} | {"corr_accum", "step_counter"}


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Every tensor in what a module holds."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors_in(part)
    elif isinstance(value, list | tuple | set):
        for part in value:
            yield from tensors_in(part)
    elif is_dataclass(value):
        yield from tensors_in(vars(value))


@pytest.mark.clause("ARB-STATE-001")
def test_nothing_else_is_kept_between_steps(target: Target) -> None:
    """After an update no module holds a tensor that is not its state, nor a number that is no integer."""
    model = trained(target)
    for name, module in ternary_modules(model).items():
        held = {key: value for key, value in vars(module).items() if key != "_modules"}
        state = {id(tensor) for tensor in module.state().values()}
        extra = [tensor for tensor in tensors_in(held) if id(tensor) not in state]
        assert not any(tensor.numel() for tensor in extra), name
        assert [key for key, value in held.items() if isinstance(value, float)] == [], name
    others = [module for module in model.modules() if module not in [*ternary_modules(model).values()]]
    assert [tensor.shape for module in others for tensor in tensors_in(vars(module))] == []


@pytest.mark.clause("ARB-STATE-007")
@pytest.mark.parametrize("cast", CASTS)
def test_casts(target: Target, cast: str) -> None:
    """Dtypes and bytes survive, and the model goes on as its twin does."""
    model, twin = trained(target), trained(target)
    before = snapshot(model)
    CASTS[cast](model)
    model.to(target.device)
    assert_legal_dtypes(model)
    assert changed(before, snapshot(model)) == []
    for each in (model, twin):
        backward(loss_of(each, models.bytes_of(target, 2, 9, seed=8)))
        each._ternary_update_memory()
    assert hash_of(model) == hash_of(twin)


@pytest.mark.clause("ARB-STATE-007")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(target: Target, dtype: torch.dtype) -> None:
    """Forward, backward and update under autocast: the state moves and stays integer."""
    model = models.model_of(target)
    before = snapshot(model)
    with torch.autocast(target.device, dtype=dtype):
        loss = loss_of(model, models.bytes_of(target, 2, 9))
        backward(loss)
        report = model._ternary_update_memory(loss_signal=loss)
    assert report.totals()["flips"] > 0
    assert_legal_dtypes(model)
    assert "head.codes" in changed(before, snapshot(model))


def through_torch(model: ARBModel) -> ARBModel:
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    return into_fresh(model, torch.load(file, weights_only=True))


def through_safetensors(model: ARBModel) -> ARBModel:
    return into_fresh(model, safetensors.torch.load(safetensors.torch.save(dict(model.state_dict()))))


def into_fresh(model: ARBModel, tensors: dict[str, torch.Tensor], **named: Any) -> ARBModel:
    """Into a model of another seed."""
    head: Any = model.head
    config = type(model.config)(**(vars(model.config) | {"seed": 77}))
    fresh = ARBModel(config, backend=head.backend.name).to(head.codes.device)
    fresh.load_state_dict(tensors, **named)
    for mine, theirs in zip(ternary_modules(fresh).values(), ternary_modules(model).values(), strict=True):
        mine.settings = theirs.settings  # settings are no state
    return fresh.to(head.codes.device)


COPIES: dict[str, Callable[[ARBModel], ARBModel]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": through_torch,
    "safetensors": through_safetensors,
    "state_dict": lambda model: into_fresh(model, snapshot(model)),
    "assign": lambda model: into_fresh(model, snapshot(model), assign=True),
}


@pytest.mark.clause("ARB-STATE-007", "ARB-STATE-008")
@pytest.mark.parametrize("way", COPIES)
def test_copies(target: Target, way: str) -> None:
    """A copy has the bytes, shares no memory, and goes on to the same state, seed and counters included."""
    model = trained(target, seed=3)
    twin = COPIES[way](model)
    assert_legal_dtypes(twin)
    assert changed(snapshot(model), snapshot(twin)) == []
    mine, theirs = (ternary_modules(each)["head"].t_accum for each in (twin, model))
    mine[0, 0] = 5
    assert changed(snapshot(model), snapshot(twin)) == ["head.t_accum"]
    mine[0, 0] = theirs[0, 0]
    for each in (model, twin):
        backward(loss_of(each, models.bytes_of(target, 2, 9, seed=8)))
        each._ternary_update_memory()
    assert hash_of(twin) == hash_of(model)


@pytest.mark.clause("ARB-STATE-007", "ARB-STATE-008")
@pytest.mark.parametrize("fmt", ["2bit", "dense"])
def test_checkpoints(target: Target, tmp_path: Path, fmt: Any) -> None:
    """Both formats bring the same bytes back, under the hash that the state has."""
    model = trained(target)
    columns = {f"{name}.codes": module.shape.columns for name, module in ternary_modules(model).items()}
    digest = save_checkpoint(tmp_path / "a", model.state_dict(), {}, 3, fmt, columns)
    assert digest == hash_of(model)
    loaded = load_checkpoint(tmp_path / "a")
    twin = into_fresh(model, {name: tensor.to(target.device) for name, tensor in loaded.tensors.items()})
    assert hash_of(twin) == digest
