"""Illegal calls of an operation, made from a legal one: each breaks one rule that can be seen without reading
elements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from arbitor.conformance.draw.ranges import BOUNDS
from arbitor.conformance.draw.strategies import example
from arbitor.conformance.judge.target import Arguments
from arbitor.kernels.operations import EXTENT_OF, OPERATIONS, Array, Operation

MOST_TOKENS = {"weight_gradient": 131_071, "linear_update": 131_071}  # of others 2^20
TOO_MANY_FEATURES = (2**31 - 1) // (127 << 6) + 1  # with e_span = 6
DTYPES = (
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.float32,
    torch.float64,
    torch.bool,
)


@dataclass(frozen=True)
class Refusal:
    """An illegal call: the error it must raise, and what the message must name."""

    label: str
    arguments: Arguments
    error: type[Exception]
    names: tuple[str | int, ...] = ()


def refusals_of(name: str) -> Iterator[Refusal]:
    """Illegal calls of the operation, labelled."""
    operation = OPERATIONS[name]
    legal = example(name, 0)
    for array in operation.arrays:
        yield from _of_array(operation, array, legal)
    for scalar in operation.scalars:
        yield from _of_scalar(scalar, legal)
    yield from _too_large(operation, legal)


def _of_array(operation: Operation, array: Array, legal: Arguments) -> Iterator[Refusal]:
    name, tensor = array.name, legal[array.name]
    for dtype in DTYPES:
        if dtype != tensor.dtype:
            label = f"{name} {dtype}".replace("torch.", "")
            yield Refusal(label, legal | {name: tensor.to(dtype)}, TypeError, (name, array.dtype))
    finite = torch.nan_to_num(tensor, 0.0, 0.0, 0.0)  # artifacts keep lists as JSON, which has no NaN
    yield Refusal(f"{name} a list", legal | {name: finite.tolist()}, TypeError, (name, "list"))
    yield Refusal(f"{name} of one axis more", legal | {name: tensor[None]}, ValueError, (name,))
    for axis, extent in enumerate(array.axes):
        yield Refusal(f"{name} empty along {axis}", legal | {name: tensor.narrow(axis, 0, 0)}, ValueError)
        if _is_bound(operation, array, extent):
            # 4 more, so that what is counted in fours changes too
            more = torch.cat([tensor, *[tensor.narrow(axis, 0, 1)] * 4], dim=axis)
            yield Refusal(f"{name} too long along {axis}", legal | {name: more}, ValueError)


def _is_bound(operation: Operation, array: Array, extent: str) -> bool:
    """Whether something else in the call fixes this extent."""
    if extent.isdigit():
        return True
    letter = extent.split("/")[0]
    others = {e.split("/")[0] for other in operation.arrays if other is not array for e in other.axes}
    return letter in others | {EXTENT_OF[scalar] for scalar in operation.scalars if scalar in EXTENT_OF}


def _of_scalar(name: str, legal: Arguments) -> Iterator[Refusal]:
    if name == "rule":
        for rule in ("nearest", "", None):
            yield Refusal(f"rule {rule!r}", legal | {name: rule}, ValueError, ("rule", repr(rule)))
        return
    for value in (1.0, True, None, "1"):
        yield Refusal(f"{name} {value!r}", legal | {name: value}, TypeError, (name,))
    low, high = BOUNDS[name]
    values = [low - 1] if high is None else [low - 1, high + 1]
    values += [6, 1023] if name == "group_size" else []
    for value in values:
        yield Refusal(f"{name} {value}", legal | {name: value}, ValueError, (name, value))


def _too_large(operation: Operation, legal: Arguments) -> Iterator[Refusal]:
    """Extents over the bounds of ARB-STATE-005, by stride 0, so that they take no memory."""
    if any("T" in array.axes for array in operation.arrays):
        most = MOST_TOKENS.get(operation.name, 2**20)
        arguments = legal | expanded(operation, legal, "T", most + 1)
        yield Refusal("T over the bound", arguments, ValueError, (most, most + 1))
    if "e_span" in operation.scalars and operation.name != "embedding_update":
        for letter in ("O", "I"):
            arguments = legal | expanded(operation, legal, letter, TOO_MANY_FEATURES) | {"e_span": 6}
            if letter == "I" and "in_features" in arguments:
                arguments["in_features"] = TOO_MANY_FEATURES
            yield Refusal(f"{letter} over the bound", arguments, ValueError, (TOO_MANY_FEATURES,))


def expanded(operation: Operation, legal: Arguments, letter: str, extent: int) -> Arguments:
    """The arrays of a legal call that have that letter, with so many of it, by stride 0."""
    changed = {}
    for array in operation.arrays:
        tensor = legal[array.name]
        for axis, name in enumerate(array.axes):
            whole, _, part = name.partition("/")
            if whole == letter:
                divisor = legal["group_size"] if part == "g" else int(part or 1)
                shape = list(tensor.shape)
                shape[axis] = -(-extent // divisor)
                tensor = tensor.narrow(axis, 0, 1).expand(shape)
                changed[array.name] = tensor
    return changed
