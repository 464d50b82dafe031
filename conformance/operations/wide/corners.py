"""Calls on arrays of more than 2^31 elements, of which only two corners hold anything: the first rows and
columns, and the last ones (calls.py).

Zeros take no memory of a CPU until they are written. So Triton's interpreter runs such calls too, where the
programs that have the corners are the only ones that run. What the corners must be is worked out on them
alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from arbitor.conformance.judge.compare import difference
from arbitor.conformance.judge.target import Arguments, Target, call
from arbitor.conformance.operations.wide.interpreted import ends_of_grids, lazy_zeros

Array = NDArray[Any]
Place = tuple[slice, ...]


@dataclass
class Wide:
    """One call, and what must be in some places of its results or of what it writes in place.

    `programs`: how many at each end of a grid have the corners and what they need.
    """

    operation: str
    arguments: Arguments
    programs: int = 4
    right: list[tuple[str, Place, torch.Tensor]] = field(default_factory=list)

    def gives(self, name: str, place: Place, values: Array) -> Wide:
        """With one more thing that must be."""
        self.right.append((name, place, torch.from_numpy(np.array(values))))
        return self


Build = Callable[[str], Wide]  # from the device


def drawn(low: int, high: int, *shape: int) -> Array:
    """int64, the same every time."""
    return np.random.default_rng(sum(shape) + high).integers(low, high, shape, endpoint=True)


def zeros(device: str, dtype: str, *shape: int) -> torch.Tensor:
    """Elements that take no memory of a CPU before they are written."""
    make = lazy_zeros if device == "cpu" else torch.zeros
    return make(*shape, dtype=getattr(torch, dtype), device=device)


def first(*extents: int) -> Place:
    """The place of the first corner of these extents."""
    return tuple(slice(0, extent) for extent in extents)


def last(*extents: int) -> Place:
    """The place of the last corner."""
    return tuple(slice(-extent, None) for extent in extents)


def put(array: torch.Tensor, place: Place, values: Array) -> torch.Tensor:
    """The array, with these values there."""
    array[place] = torch.from_numpy(np.array(values)).to(array.device).to(array.dtype)
    return array


def corners(array: torch.Tensor, top: Array, bottom: Array) -> torch.Tensor:
    """The array, with these in its first and its last corner."""
    return put(put(array, first(*top.shape), top), last(*bottom.shape), bottom)


def check_wide(target: Target, wide: Wide) -> int:
    """Elements that were compared. Raises AssertionError where a corner is not what it must be."""
    interpreted = target.device == "cpu"
    if interpreted:
        with ends_of_grids(wide.programs):
            found = call(target.backend, wide.operation, wide.arguments, target.device)
    else:
        found = call(target.backend, wide.operation, wide.arguments, target.device)
    compared = 0
    for name, place, right in wide.right:
        mine = found[name][place].cpu()
        wrong = difference(f"{name}{_shown(place)}", right, mine)
        if wrong:
            raise AssertionError(f"{wide.operation} of {tuple(found[name].shape)}: {wrong}")
        compared += right.numel()
    return compared


def _shown(place: Place) -> str:
    parts = (f"{'' if s.start is None else s.start}:{'' if s.stop is None else s.stop}" for s in place)
    return f"[{', '.join(parts)}]"
