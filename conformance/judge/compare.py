"""Equality, and what to print where there is none.

Arrays are the same if dtype, shape and every bit are: float32 is compared as patterns, so the sign of a zero
and the payload of a NaN count. There is no tolerance to pass. A message names the operation, the array, the
number of differing elements, the first one with both values and what surrounds them (packed trits unpacked),
and how to repeat the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from arbitor.conformance.judge.counting import ANSWERS, ELEMENTS, count
from arbitor.conformance.judge.explain import explained
from arbitor.conformance.judge.repro import reproduction

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_AROUND = 3
_FIELDS = {"codes": (4, 4), "dense": (3, 5)}  # name of a packed array: (base of a field, fields of a byte)


def assert_same(
    operation: str,
    arguments: Mapping[str, Any],
    expected: Mapping[str, torch.Tensor],
    actual: Mapping[str, Any],
    backend: str = "torch",
) -> None:
    """Raises AssertionError unless `actual` has the arrays of `expected`, bit for bit.

    Nothing to compare is a failure too.
    """
    __tracebackhide__ = True  # the frame that matters is the caller's
    if not expected or any(array.numel() == 0 for array in expected.values()):
        raise AssertionError(f"{operation}: nothing to compare")
    # counts say least about where it went wrong, so they come last
    for name, array in sorted(expected.items(), key=lambda item: item[0] == "counts"):
        found = difference(name, array, actual.get(name))
        count(ANSWERS)
        count(ELEMENTS, array.numel())
        if found is not None:
            why = explained(operation, arguments, expected, actual, name)
            how = reproduction(operation, dict(arguments), backend)
            raise AssertionError(f"{operation}: {found}\n{why}to repeat it:\n{how}")


def difference(name: str, expected: torch.Tensor, actual: Any) -> str | None:
    """How `actual` differs from `expected`, in words, or None."""
    if not isinstance(actual, torch.Tensor):
        return f"{name} is a {type(actual).__name__}, expected a tensor"
    if actual.dtype != expected.dtype:
        return f"{name} has dtype {actual.dtype}, expected {expected.dtype}"
    if actual.shape != expected.shape:
        return f"{name} has shape {list(actual.shape)}, expected {list(expected.shape)}"
    right, mine = bits(expected), bits(actual)
    wrong = np.argwhere(right != mine)
    if len(wrong) == 0:
        return None
    index = tuple(int(i) for i in wrong[0])
    return (
        f"{name} differs in {len(wrong)} of {right.size} elements, first at {list(index)}: "
        f"{_value(expected, index)}, expected, but got {_value(actual, index)}\n"
        f"  expected {_around(name, expected, index)}\n"
        f"  got      {_around(name, actual, index)}"
    )


def bits(tensor: torch.Tensor) -> NDArray[Any]:
    """The elements as unsigned integers of their width."""
    array = tensor.detach().cpu().contiguous().numpy()
    return array.view(_UNSIGNED[array.itemsize])


def _value(tensor: torch.Tensor, index: tuple[int, ...]) -> str:
    value = tensor.detach().cpu()[index].item()
    return f"{value!r} (0x{bits(tensor)[index]:08X})" if tensor.is_floating_point() else str(value)


def _around(name: str, tensor: torch.Tensor, index: tuple[int, ...]) -> str:
    """The elements beside `index` on its row."""
    *row, column = index
    start = max(column - _AROUND, 0)
    values = tensor.detach().cpu()[tuple(row)][start : column + _AROUND + 1].tolist()
    place = f"[{', '.join(map(str, [*row, f'{start}:{start + len(values)}']))}]"
    if name in _FIELDS:
        return f"{place} trits {' '.join(_trits(byte, *_FIELDS[name]) for byte in values)}, bytes {values}"
    return f"{place} {values}"


def _trits(byte: int, base: int, fields: int) -> str:
    """A packed byte as characters, the first field first; ? is an illegal code."""
    if byte >= base**fields:
        return "?" * fields
    return "".join("-0+?"[byte // base**k % base] for k in range(fields))
