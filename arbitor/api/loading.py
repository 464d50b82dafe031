"""`load_state_dict` of a whole model changes all of it or nothing (ARB-STATE-006)."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..components import TernaryModule
from ..schedule import settings_in


def check_before_loading(model: nn.Module) -> None:
    """From now on `model.load_state_dict` looks at every ternary module's part, and at the shapes of the
    rest, before anything is changed. Asked again it does nothing."""
    if not getattr(model, "_arbitor_checks", False):
        model._arbitor_checks = True  # type: ignore[assignment]
        model.register_load_state_dict_pre_hook(_check)


def _check(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, local: Any, strict: bool, *_: Any
) -> None:
    """Before the first tensor is copied. Raises ValueError; RuntimeError, as torch, for ternary tensors that
    are missing."""
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
            lacks = [n for n in (*part.state(), "_extra_state") if strict and place + n not in state_dict]
            if lacks:
                old = ", as of specification 1, which had none" if lacks == ["moment"] else ""
                raise RuntimeError(
                    f"state_dict lacks {', '.join(lacks)} of {place[:-1]}{old}: nothing was loaded"
                )
            part.check_incoming(state_dict, place)
            settings_in(metadata.get(place[:-1], {}), place)
