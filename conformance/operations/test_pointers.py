"""Results are of what the arguments hold at the call, not of where they lie or of what was asked before.

A backend that remembers an answer by the address, the shape or a few elements of its arguments is seen here,
and so is one that writes every answer to the same memory.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from arbitor.conformance.draw.strategies import sized_example
from arbitor.conformance.judge.compare import assert_same, difference
from arbitor.conformance.judge.guard import given, hold, taken
from arbitor.conformance.judge.target import Arguments, Target, call
from arbitor.conformance.operations.common import busy
from arbitor.kernels.operations import OPERATIONS

Change = Callable[[str, Arguments], Arguments]
SIZES, GROUP = (5, 18, 7), 8
WITH_ARRAYS = [name for name, operation in OPERATIONS.items() if operation.arrays]
PACKED = {"codes": (0b01010101, 0b01010110), "dense": (121, 122)}  # bytes of zero trits, and of one that is 1


def arguments_for(operation: str) -> Arguments:
    """A busy call; every array has elements between its first and its last."""
    names = OPERATIONS[operation].arguments
    sizes = SIZES if {"q_x", "q_d", "tokens", "rows"} & set(names) else SIZES[:2]
    return busy(sized_example(operation, 3, sizes, GROUP))


def turned(operation: str, arguments: Arguments) -> Arguments:
    """The same call with the rows of every array in the opposite order."""
    arrays = [array.name for array in OPERATIONS[operation].arrays]
    return arguments | {name: arguments[name].flip(0).contiguous() for name in arrays}


def nudged(operation: str, arguments: Arguments) -> Arguments:
    """The same call with one element of its first array changed, neither the first nor the last."""
    name = OPERATIONS[operation].arrays[0].name
    array = arguments[name].clone()
    zero, one = PACKED.get(name, (0, 1))
    flat, middle = array.view(-1), array.numel() // 2
    flat[middle] = zero if flat[middle] != zero else one
    return arguments | {name: array}


def checked(target: Target, operation: str, arguments: Arguments, mine: Arguments) -> Arguments:
    """A call on `mine` as it is, which holds `arguments`, against the judge: the results where they lie."""
    held = hold(arguments)
    found = call(target.backend, operation, mine, target.device)
    seen = taken(found)
    expected = call(target.judge, operation, given(held))
    assert_same(operation, given(held), expected, seen, target.backend.name)
    return found


@pytest.mark.clause("ARB-UPD-003")
@pytest.mark.parametrize("change", [turned, nudged], ids=["turned", "nudged"])
@pytest.mark.parametrize("operation", WITH_ARRAYS)
def test_other_elements_in_the_same_memory(target: Target, operation: str, change: Change) -> None:
    """The second answer is of the new elements, and the first one stays as it was."""
    target.needs(operation)
    first = arguments_for(operation)
    second = change(operation, first)
    mine = target.placed(first)
    results = [array.name for array in OPERATIONS[operation].results]
    kept = {name: array for name, array in checked(target, operation, first, mine).items() if name in results}
    before = taken(kept)
    for name, value in second.items():
        if isinstance(value, torch.Tensor):
            mine[name].copy_(value)
    checked(target, operation, second, mine)
    for name, array in before.items():
        found = difference(name, array, kept[name])
        assert found is None, f"{operation}: a later call wrote to the result of an earlier one: {found}"


@pytest.mark.clause("ARB-UPD-003")
@pytest.mark.parametrize("operation", WITH_ARRAYS)
def test_the_same_elements_in_other_memory(target: Target, operation: str) -> None:
    """Another call in between, and all memory of the first is still in use."""
    target.needs(operation)
    arguments = arguments_for(operation)
    places = [target.placed(a) for a in (arguments, turned(operation, arguments), arguments)]
    found = [call(target.backend, operation, mine, target.device) for mine in places]
    assert_same(operation, arguments, taken(found[0]), taken(found[2]), target.backend.name)
