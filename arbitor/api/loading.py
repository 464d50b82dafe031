"""What torch does to a whole model: `load_state_dict` changes all of it or nothing (ARB-STATE-006), and
DistributedDataParallel leaves ternary state alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

from ..components import TernaryModule
from ..schedule import settings_in
from ..update import ternary_modules


def check_before_loading(model: nn.Module) -> None:
    """From now on `model.load_state_dict` looks at every ternary module's part, and at the shapes of the
    rest, before anything is changed. Asked again it does nothing."""
    if not getattr(model, "_arbitor_checks", False):
        model._arbitor_checks = True  # type: ignore[assignment]
        model.register_load_state_dict_pre_hook(_check)


def _check(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Before the first tensor is copied. Raises ValueError."""
    own = {
        prefix + name: tensor
        for name, tensor in (*module.named_parameters(), *module.named_buffers())
        if prefix + name in state_dict
    }
    for name, tensor in own.items():
        found = state_dict[name]
        if getattr(found, "shape", None) != tensor.shape:
            raise ValueError(
                f"{name} must have shape {tuple(tensor.shape)}, got {tuple(getattr(found, 'shape', ()))}"
            )
    metadata = getattr(state_dict, "_metadata", None) or {}
    for name, part in module.named_modules():
        if isinstance(part, TernaryModule):
            place = f"{prefix}{name}." if name else prefix
            part.check_incoming(state_dict, place)
            settings_in(metadata.get(place[:-1], {}), place)


class TernaryState:
    """Names of all ternary state in a model, which are those of the moment in which somebody asks: parts may
    have been compiled since, or the whole."""

    def __init__(self, model: nn.Module, others: Iterable[str]) -> None:
        self.model, self.others = model, list(others)

    def __iter__(self) -> Iterator[str]:
        yield from self.others
        for name, module in ternary_modules(self.model).items():
            for buffer in module.state():
                own = f"{name}.{buffer}" if name else buffer
                yield from (own, f"_orig_mod.{own}")  # of torch.compile(model)


def leave_to_ranks(model: nn.Module) -> None:
    """Tell DistributedDataParallel not to broadcast ternary state: every rank has the same, and gloo and NCCL
    have no int16. Told again it does nothing."""
    before = getattr(model, "_ddp_params_and_buffers_to_ignore", ())
    if not (isinstance(before, TernaryState) and before.model is model):
        model._ddp_params_and_buffers_to_ignore = TernaryState(model, before)  # type: ignore[assignment]
