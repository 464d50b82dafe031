"""Small layers and models on the backend under test, and the few things that the tests of the runtime do
with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from arbitor.checkpoint import state_hash
from arbitor.components import TernaryEmbeddingTable, TernaryLinear, TernaryModule
from arbitor.conformance.judge.target import REFERENCE, Target
from arbitor.kernels.registry import select
from arbitor.main import ARBConfig, ARBModel
from arbitor.runtime import configure_ternary_training
from arbitor.schedule import scheduled_gain, scheduled_scale_gain

ON_HOST = "arbitor.conformance.judge.on_host"
QUICK: dict[str, Any] = {
    "accum_threshold": 2,
    "e_accum_threshold": 2,
    "scale_gain": 1 << 16,
}  # much moves in a step
State = dict[str, torch.Tensor]


def rivals(target: Target) -> list[str]:
    """Other backends on the target's device, at least one: what they and the target compute has to be the
    same."""
    names = (REFERENCE, "torch") if target.device == "cpu" else (ON_HOST, "torch")
    return [name for name in names if select(name).module is not target.backend.module]


def linear(target: Target, columns: int = 12, rows: int = 10, **options: Any) -> TernaryLinear:
    """A layer [rows, columns] in groups of 8, so that the last is short, that changes quickly."""
    layer = TernaryLinear(
        columns, rows, **({"tensor_id": 0, "group_size": 8, "backend": target.backend.name} | options)
    )
    configure_ternary_training(layer, **QUICK)
    return layer.to(target.device)


def table(target: Target, rows: int = 9, columns: int = 12, **options: Any) -> TernaryEmbeddingTable:
    """An embedding table likewise."""
    layer = TernaryEmbeddingTable(
        rows, columns, **({"tensor_id": 0, "group_size": 8, "backend": target.backend.name} | options)
    )
    configure_ternary_training(layer, **QUICK)
    return layer.to(target.device)


def model_of(target: Target, backend: str | None = None, **config: Any) -> ARBModel:
    """A model of one layer and width 16 on that backend, or on the target's; changes quickly."""
    shape = ARBConfig(**({"d_model": 16, "layers": 1, "heads": 2, "mlp_ratio": 2, "group_size": 12} | config))
    model = ARBModel(shape, backend=backend or target.backend.name)
    configure_ternary_training(model, **QUICK)
    return model.to(target.device)


def noise(target: Target, *extents: int, seed: int = 0) -> torch.Tensor:
    """Normal float32, the same on every device."""
    return torch.randn(extents, generator=torch.Generator().manual_seed(seed)).to(target.device)


def bytes_of(target: Target, *extents: int, seed: int = 0, high: int = 256) -> torch.Tensor:
    """Tokens int64 below `high`, the same on every device."""
    return torch.randint(0, high, extents, generator=torch.Generator().manual_seed(seed)).to(target.device)


def loss_of(model: ARBModel, tokens: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the next byte, tokens [B, T + 1]."""
    targets = tokens[:, 1:]
    return model.work.cross_entropy(model(tokens[:, :-1]), targets) * (1 / targets.numel())


def backward(loss: torch.Tensor, **named: Any) -> None:
    """`loss.backward()`, typed."""
    untyped: Any = loss
    untyped.backward(**named)


def trajectory(target: Target, backend: str, steps: int, **config: Any) -> tuple[list[float], str]:
    """Losses and the final state hash of a run that follows the schedule."""
    model = model_of(target, backend, **config)
    losses = []
    for step in range(steps):
        loss = loss_of(model, bytes_of(target, 2, 9, seed=step, high=4))
        backward(loss)
        gain, scale_gain = scheduled_gain(2 << 16, step, steps), scheduled_scale_gain(1 << 16, step, steps)
        model._ternary_update_memory(loss_signal=loss, gain=gain, scale_gain=scale_gain)
        losses.append(loss.item())
    return losses, hash_of(model)


def hash_of(module: nn.Module) -> str:
    """State hash of all that the module would save."""
    return state_hash(module.state_dict())


def snapshot(module: nn.Module) -> State:
    """A copy of all that the module would save."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(before: State, after: State) -> list[str]:
    """Names of the tensors that differ in dtype, shape or any element."""
    assert before.keys() == after.keys()
    return [n for n in before if before[n].dtype != after[n].dtype or not torch.equal(before[n], after[n])]


def trits_of(module: TernaryModule) -> torch.Tensor:
    """The trits int8 [rows, columns], unpacked by the backend under test."""
    trits: torch.Tensor = module.backend.unpack(module.codes, module.shape.columns)
    return trits.clone()


class Lost(Exception):
    """What a device that is gone raises."""


@contextmanager
def failing(target: Target, operation: str, good: int = 0) -> Iterator[None]:
    """Meanwhile the backend's operation raises Lost, after `good` calls that it does."""
    honest, calls = getattr(target.backend, operation), [0]

    def call(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] > good:
            raise Lost(operation)
        return honest(*arguments, **named)

    setattr(target.backend, operation, call)
    try:
        yield
    finally:
        setattr(target.backend, operation, honest)
    assert calls[0] > good, f"{operation} was not called often enough"
