"""Starting from a checkpoint of another run: what a model takes over of it, and what it does not.

A ternary matrix is taken whole or not at all: codes, accumulated votes, exponents and counters, if the model
has one of the same name, extents, group size and exponent band. Its random streams stay those of the new run:
`tensor_id` and `seed` are the model's own and `updates` starts at 0, because a random bit is a function of
these (ARB-RNG-002), and a model with more parts may number its tensors in another way. What is not in the
checkpoint stays as it was initialised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from arbitor.checkpoint import CheckpointError, load_checkpoint, ternary_options
from arbitor.main import ARBConfig, ARBModel
from arbitor.state import NUMBERS
from arbitor.update import ternary_modules

EXTRA = "_extra_state"
BAND = [place for place, name in enumerate(NUMBERS) if name in ("e_base", "e_span", "group_size")]


@dataclass(frozen=True)
class Taken:
    """Names of the state tensors that came from a checkpoint, how many the model has, and the checkpoint's
    state hash."""

    names: tuple[str, ...]
    total: int
    digest: str


def take_over(model: ARBModel, path: Path) -> Taken:
    """Give `model` what it has in common with the checkpoint at `path`.

    Raises CheckpointError, with the model as it was, for a file that `load_checkpoint` refuses, for the
    checkpoint of a float twin or of other software, for another d_model or number of heads, for illegal
    state, and if there is nothing in common.
    """
    checkpoint = load_checkpoint(path)
    try:
        _check(checkpoint.config, model.config)
        given, own = checkpoint.tensors, dict(model.state_dict())
        names = [
            name
            for module, held in ternary_modules(model).items()
            if _fits(given, own, module, [*held.state()])
            for name in (f"{module}.{part}" for part in held.state())
        ]
        if not names:
            raise ValueError("none of its tensors has the name and the shape of one of the model")
        device = next(model.buffers()).device
        model.load_state_dict(own | {name: given[name].to(device) for name in names})
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    return Taken(tuple(names), sum(not name.endswith(EXTRA) for name in own), checkpoint.digest)


def _check(config: Mapping[str, Any], own: ARBConfig) -> None:
    options = ternary_options(config)
    for name in ("d_model", "heads"):  # the same extents with other heads would mean something else
        if options.get(name) != getattr(own, name):
            raise ValueError(
                f"made with {name} {options.get(name)!r}, this model has {getattr(own, name)}; "
                f"give --{name.replace('_', '-')}"
            )


def _fits(
    given: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], module: str, parts: list[str]
) -> bool:
    """Whether all of a matrix is there, in the extents and the exponent band of the model's."""
    for name in (f"{module}.{part}" for part in [*parts, EXTRA]):
        if name not in given or given[name].shape != own[name].shape:
            return False
    extra = f"{module}.{EXTRA}"
    return given[extra][BAND].tolist() == own[extra][BAND].tolist()
