"""Dishonest backends fail: a torch backend in which one operation lies is caught by that operation's check.

The lies are those that harnesses are known to miss: zeros, one bit, another dtype, a changed input, a stale
result, work that was not done, an argument that was not read.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

from arbitor.conformance.draw.strategies import example
from arbitor.conformance.judge.target import Target, judge_of, target_of
from arbitor.conformance.operations.common import HOW
from arbitor.kernels import eager
from arbitor.kernels.operations import OPERATIONS
from arbitor.kernels.registry import Backend

Function = Callable[..., Any]
Lie = Callable[[str, Function], Function]
SEEDS = range(30)


def backend_with(operation: str, function: Function) -> Target:
    """The torch backend with one operation replaced."""
    module = ModuleType("dishonest")
    for name in OPERATIONS:
        setattr(module, name, getattr(eager, name))
    setattr(module, operation, function)
    return Target(Backend("dishonest", module), judge_of("torch"))


def each_result(change: Callable[[torch.Tensor], torch.Tensor]) -> Lie:
    """Honest work, then every result changed."""

    def lie(operation: str, honest: Function) -> Function:
        def function(*arguments: Any, **named: Any) -> Any:
            found = honest(*arguments, **named)
            return tuple(map(change, found)) if isinstance(found, tuple) else change(found)

        return function

    return lie


def one_bit(tensor: torch.Tensor) -> torch.Tensor:
    changed = tensor.clone()
    raw = changed.view(torch.int32) if changed.dtype == torch.float32 else changed
    raw.view(-1)[-1] ^= 1
    return changed


def wider(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.int64 if tensor.dtype != torch.int64 else torch.int32)


def idle(operation: str, honest: Function) -> Function:
    """The results of honest work on copies: nothing is written in place."""

    def function(*arguments: Any, **named: Any) -> Any:
        return honest(*(a.clone() if isinstance(a, torch.Tensor) else a for a in arguments), **named)

    return function


def stale(operation: str, honest: Function) -> Function:
    """The first result for ever, in the shape that is asked for."""
    first: list[Any] = []

    def function(*arguments: Any, **named: Any) -> Any:
        found = honest(*arguments, **named)
        if not first:
            first.append(found)
        kept, wanted = (first[0], found) if isinstance(found, tuple) else ((first[0],), (found,))
        results = tuple(torch.resize_as_(k.clone(), w) for k, w in zip(kept, wanted, strict=True))
        return results if isinstance(found, tuple) else results[0]

    return function


def changes_an_input(operation: str, honest: Function) -> Function:
    """Honest results, and then one element of an input is one more."""
    inputs = [i for i, array in enumerate(OPERATIONS[operation].arrays) if not array.in_place]

    def function(*arguments: Any, **named: Any) -> Any:
        found = honest(*arguments, **named)
        for i in inputs:
            arguments[i].view(-1)[-1] += 1
        return found

    return function


LIES: dict[str, Lie] = {
    "zeros": each_result(torch.zeros_like),
    "one bit": each_result(one_bit),
    "another dtype": each_result(wider),
    "another shape": each_result(lambda tensor: tensor[None]),
    "stale": stale,
    "changes an input": changes_an_input,
    "idle": idle,
}


def applies(lie: str, operation: str) -> bool:
    arrays = OPERATIONS[operation].arrays
    if lie == "changes an input":
        return any(not array.in_place for array in arrays)
    return lie != "idle" or any(array.in_place for array in arrays)


def is_caught(target: Target, operation: str) -> bool:
    for seed in SEEDS:
        try:
            target.check(operation, example(operation, seed))
        except AssertionError:
            return True
    return False


@pytest.fixture(autouse=True)
def _reproductions_elsewhere(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_honest_work_passes(operation: str) -> None:
    assert not is_caught(backend_with(operation, getattr(eager, operation)), operation)


@pytest.mark.parametrize(
    ("lie", "operation"), [(lie, o) for lie in LIES for o in OPERATIONS if applies(lie, o)]
)
def test_lies_are_caught(lie: str, operation: str) -> None:
    assert is_caught(backend_with(operation, LIES[lie](operation, getattr(eager, operation))), operation)


def test_nobody_judges_itself() -> None:
    for name in ("auto", "torch", "reference", "arbitor.reference", "arbitor.conformance.oracle"):
        target = target_of(name)
        assert target.backend.module is not target.judge.module


def ignoring(name: str, value: Any) -> Lie:
    """Whatever is asked for, this argument has that value."""

    def lie(operation: str, honest: Function) -> Function:
        place = OPERATIONS[operation].arguments.index(name)

        def function(*arguments: Any, **named: Any) -> Any:
            return honest(*arguments[:place], value, *arguments[place + 1 :], **named)

        return function

    return lie


ARGUMENTS: dict[str, Any] = dict.fromkeys(
    ("seed", "step", "stream", "tensor_id", "first_row", "first", "e_base"), 0
)
ARGUMENTS |= {
    name: HOW[name] for name in ("rule", "gain", "vote_max", "accum_threshold", "e_accum_threshold", "e_span")
}
ARGUMENTS |= {"scale_gain": 65_536}
READ = [(o, name) for o in OPERATIONS for name in OPERATIONS[o].scalars if name in ARGUMENTS]
# within the band that e_base and e_span give, a larger span changes no sum
UNREAD = [("linear_forward", "e_span"), ("input_gradient", "e_span")]


@pytest.mark.parametrize(("operation", "name"), [case for case in READ if case not in UNREAD])
def test_every_scalar_has_to_be_read(operation: str, name: str) -> None:
    lie = ignoring(name, ARGUMENTS[name])
    assert is_caught(backend_with(operation, lie(operation, getattr(eager, operation))), operation)


UPDATES = [o for o in OPERATIONS if "rule" in OPERATIONS[o].scalars]


@pytest.mark.parametrize("name", ["e_g", "moment"])
@pytest.mark.parametrize("operation", UPDATES)
def test_what_decides_the_size_of_a_vote_has_to_be_read(operation: str, name: str) -> None:
    """An update that takes every exponent, or every moment, for 0."""
    place = OPERATIONS[operation].arguments.index(name)

    def function(*arguments: Any, **named: Any) -> Any:
        if name == "moment":
            arguments[place].zero_()
            return getattr(eager, operation)(*arguments, **named)
        others = (*arguments[:place], torch.zeros_like(arguments[place]), *arguments[place + 1 :])
        return getattr(eager, operation)(*others, **named)

    assert is_caught(backend_with(operation, function), operation)


def test_a_table_counts_the_updates_of_its_rows() -> None:
    """One that goes by the step of the table is caught."""
    names = OPERATIONS["embedding_update"].arguments
    place, step = names.index("step_counter"), names.index("step")

    def function(*arguments: Any, **named: Any) -> Any:
        counter = arguments[place].clone()
        others = list(arguments)
        others[place] = torch.full_like(counter, min(arguments[step], 2**31 - 1))
        found = eager.embedding_update(*others, **named)
        seen = arguments[0].unique()
        arguments[place][seen] = (counter[seen].long() + 1).clamp(max=2**31 - 1).int()
        return found

    assert is_caught(backend_with("embedding_update", function), "embedding_update")


@pytest.mark.parametrize("operation", ["pack", "unpack", "pack_dense", "unpack_dense"])
def test_a_backend_that_refuses_nothing_is_caught(operation: str) -> None:
    array, columns = OPERATIONS[operation].arrays[0], 8 if operation == "unpack" else 10
    result = torch.zeros(1, columns, dtype=torch.int8)
    target = backend_with(operation, lambda *arguments: result)
    illegal = {
        array.name: torch.full((1, 2), 100).to(result.dtype if "un" not in operation else torch.uint8) | 3
    }
    scalars = {"columns": columns} if "un" in operation else {}
    with pytest.raises(AssertionError, match="answered an illegal call"):
        target.refuses(operation, illegal | scalars, ValueError)


def test_a_refusal_that_comes_too_late_is_caught() -> None:
    def function(*arguments: Any) -> None:
        arguments[2].view(-1)[0] ^= 1
        raise ValueError("too late")

    with pytest.raises(AssertionError, match="was refused but changed codes"):
        backend_with("ternary_update", function).refuses(
            "ternary_update", example("ternary_update", 0), ValueError
        )


def test_a_refusal_without_the_place_is_caught() -> None:
    def function(*arguments: Any) -> None:
        raise ValueError("no")

    with pytest.raises(AssertionError, match="should name"):
        backend_with("pack", function).refuses("pack", example("pack", 0), ValueError, "row", 7)
