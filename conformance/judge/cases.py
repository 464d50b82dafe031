"""What failed, as data: the error of a failed comparison carries its case, artifacts.py writes it down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

_CASE = "arbitor_case"
CONFIGURATION = "configuration"  # in a `way`: how the backend was told to run the operation
POISON = 85  # between the elements of a tensor that is laid out again


@dataclass(frozen=True)
class FailedCall:
    """One call of an operation: arguments as they were before it, and what both sides gave, if they did.

    `way` is how the arguments lay in memory: empty for tensors of their own, {"strides": {name: [strides,
    offset]}}, or {"arena": {"shift": n, "turned": [names]}} between red zones; with
    "configuration", one of the backend's `configurations`.
    """

    operation: str
    arguments: Mapping[str, Any]
    backend: str
    device: str
    expected: Mapping[str, torch.Tensor] = field(default_factory=dict)
    actual: Mapping[str, Any] = field(default_factory=dict)
    way: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FailedRefusal:
    """An illegal call that was not refused as it has to be: by an `error` whose message has all `names`, and
    before anything is changed. Arguments may be of any type."""

    operation: str
    arguments: Mapping[str, Any]
    error: str
    names: Sequence[str | int]
    backend: str
    device: str


@dataclass(frozen=True)
class FailedSteps:
    """Training steps as data (machine/world.py), the last one is where the two sides parted; and the hash of
    the judge's state after each."""

    configuration: Mapping[str, Any]
    steps: Sequence[Mapping[str, Any]]
    backend: str
    device: str
    hashes: Sequence[str] = ()


Case = FailedCall | FailedRefusal | FailedSteps


def carry(error: BaseException, case: Case) -> None:
    """Make `error` carry its case; a later call wins, because it is nearer to the test."""
    setattr(error, _CASE, case)


def case_of(error: BaseException) -> Case | None:
    """The case that an error carries, or one of its group, or what it came from; the first that is found."""
    return next((getattr(found, _CASE) for found in related(error) if hasattr(found, _CASE)), None)


def related(error: BaseException | None, seen: set[int] | None = None) -> Iterator[BaseException]:
    """The error, those of its group (Hypothesis raises one for several failures), its cause and context."""
    seen = set() if seen is None else seen
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    yield error
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from related(part, seen)
    yield from related(error.__cause__, seen)
    yield from related(error.__context__, seen)


def way_of(placed: Mapping[str, Any]) -> dict[str, Any]:
    """The `way` of tensors that are not contiguous from the beginning of their memory; else empty."""
    strides = {
        name: [list(value.stride()), value.storage_offset()]
        for name, value in placed.items()
        if isinstance(value, torch.Tensor) and not (value.is_contiguous() and value.storage_offset() == 0)
    }
    return {"strides": strides} if strides else {}


def laid_out(tensor: torch.Tensor, strides: Sequence[int], offset: int) -> torch.Tensor:
    """The elements in memory with these strides behind `offset` others; gaps hold POISON.

    Raises ValueError for strides by which elements that differ share a place.
    """
    if len(strides) != tensor.dim() or min((offset, *strides)) < 0:
        raise ValueError(f"strides {list(strides)} and offset {offset} do not fit shape {list(tensor.shape)}")
    extent = offset + 1 + sum((n - 1) * s for n, s in zip(tensor.shape, strides, strict=True))
    memory = torch.full((extent,), POISON, dtype=tensor.dtype, device=tensor.device)
    placed = memory.as_strided(tensor.shape, strides, offset)
    one_of_each = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in strides)
    placed[one_of_each] = tensor[one_of_each]
    if placed.contiguous().view(torch.uint8).ne(tensor.contiguous().view(torch.uint8)).any():
        raise ValueError(f"strides {list(strides)} put elements that differ in one place")
    return placed
