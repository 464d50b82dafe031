"""Settings and runtime state of a whole model (ARB-RUN-009, ARB-RUN-010)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch.distributed as dist
from torch import nn

from .moe import MixtureOfExperts
from .ranks import Ranks
from .schedule import UpdateRule
from .update import ternary_modules


def configure_ternary_training(
    model: nn.Module, accum_threshold: int = 32, e_accum_threshold: int = 32, **settings: Any
) -> int:
    """Set both thresholds, and any other field of UpdateRule, on every ternary module; gives back
    accum_threshold.

    Raises ValueError or TypeError for a setting out of range before any module is touched.
    """
    settings = {"accum_threshold": accum_threshold, "e_accum_threshold": e_accum_threshold, **settings}
    for name in settings:
        if name not in UpdateRule.__dataclass_fields__:
            raise TypeError(f"unknown setting {name!r}; known: {', '.join(UpdateRule.__dataclass_fields__)}")
    UpdateRule(**settings)  # refuses, also where there is no module
    for module in ternary_modules(model).values():
        module.settings = replace(module.settings, **settings)
    return accum_threshold


def join_ranks(model: nn.Module, ranks: Ranks | None = None) -> None:
    """Make the updates of every ternary module those of all ranks' tokens (ARB-RANK-001), on every rank
    before the first forward, and before DistributedDataParallel has the float parameters. None takes the
    process group that there is.

    Raises ValueError where there is none, and for a model with experts: ranks would differ in the tokens of a
    call (ARB-RANK-002).
    """
    if ranks is None:
        if not (dist.is_available() and dist.is_initialized()):
            raise ValueError("there is no process group to join: call arbitor.start_ranks() first")
        ranks = Ranks(dist.get_rank(), dist.get_world_size())
    if any(isinstance(module, MixtureOfExperts) for module in model.modules()):
        raise ValueError("a model with experts cannot be trained on several ranks: their tokens differ")
    for module in ternary_modules(model).values():
        module.ranks = ranks


def reset_runtime_state(model: nn.Module) -> None:
    """Clear KV caches and window state of every module that has some."""
    for module in model.modules():
        reset = getattr(module, "reset_runtime_state", None)
        if callable(reset):
            reset()
