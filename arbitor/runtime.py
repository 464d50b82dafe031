"""Settings, ranks and runtime state of a whole model (ARB-RUN-009, ARB-RUN-010, ARB-RANK-001)."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import torch.distributed as dist
from torch import nn

from .moe import MixtureOfExperts
from .ranks import Ranks
from .schedule import UpdateRule
from .update import ternary_modules

# before the names of what torch wraps and passes attributes on for: torch.compile, checkpoint_wrapper; up to
# three around a whole model, in any order. DDP asks for names and does not say what it was given
_WRAPPERS = ("_orig_mod.", "_checkpoint_wrapped_module.")
_PREFIXES = tuple("".join(some) for count in range(4) for some in product(_WRAPPERS, repeat=count))


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


class StateNames:
    """Names of a model's ternary state for DistributedDataParallel, as they are when it asks: parts of the
    model may have been wrapped since, or the whole. In a copy of the model they are a list."""

    def __init__(self, model: nn.Module, others: Iterable[str]) -> None:
        self._model, self._others = weakref.ref(model), list(others)  # the model has this: no circle

    def __iter__(self) -> Iterator[str]:
        yield from self._others
        model = self._model()
        for name, module in () if model is None else ternary_modules(model).items():
            for buffer in module.state():
                own = f"{name}.{buffer}" if name else buffer
                yield from (prefix + own for prefix in _PREFIXES)

    def __reduce__(self) -> tuple[type[list[str]], tuple[list[str]]]:
        return list, (list(self),)


def leave_to_ranks(model: nn.Module) -> None:
    """Tell DistributedDataParallel not to broadcast ternary state: every rank has the same, and gloo and NCCL
    have no int16. Told again it does nothing."""
    before = getattr(model, "_ddp_params_and_buffers_to_ignore", ())
    if not isinstance(before, StateNames):  # a wrapper has that of what it wraps
        model._ddp_params_and_buffers_to_ignore = StateNames(model, before)  # type: ignore[assignment]


def join_ranks(model: nn.Module, ranks: Ranks | None = None, *, means: bool = True) -> None:
    """Make the updates of every ternary module those of all ranks' tokens (ARB-RANK-001), on every rank
    before the first forward. None takes the process group that there is. Where float parameters have
    DistributedDataParallel, give this the module that DDP is given afterwards, with whatever is around it.
    `means`: the loss of each rank is the mean over its own tokens, as DDP wants it (ARB-RANK-006).

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
        module.ranks, module.rank_octaves = ranks, ranks.octaves if means else 0
    leave_to_ranks(model)


def reset_runtime_state(model: nn.Module) -> None:
    """Clear KV caches and window state of every module that has some."""
    for module in model.modules():
        reset = getattr(module, "reset_runtime_state", None)
        if callable(reset):
            reset()
