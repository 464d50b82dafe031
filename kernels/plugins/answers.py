"""Results of a backend that works on NumPy arrays or on lists, taken for what they are and never converted.

A dtype that is quietly cast would hide a wrong one. What is wrong is `WrongAnswer` and no ValueError: it must
not be taken for the refusal of an illegal call.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from ..operations import Array, Operation


class BackendUnavailable(RuntimeError):
    """A backend that was asked for by name cannot run here; the message says why."""


class WrongAnswer(RuntimeError):
    """A result of another kind, dtype, shape or number than the table of operations has."""


def plain_arguments(found: Any) -> list[Any]:
    """The arguments of an exception if they are a few words and numbers that JSON has; else none."""
    plain = (
        isinstance(found, list)
        and len(found) <= 3
        and all(
            type(a) is str or (type(a) is int and abs(a) < 2**64) or (type(a) is float and math.isfinite(a))
            for a in found
        )
    )
    return found if plain else []


def results_of(operation: Operation, found: Any) -> tuple[Any, ...]:
    """The results one by one; raises WrongAnswer for another number of them."""
    results = found if isinstance(found, tuple) else (found,)
    if len(results) != len(operation.results):
        expected = ", ".join(array.name for array in operation.results)
        raise WrongAnswer(
            f"{operation.name} gave {len(results)} results, expected {len(operation.results)}: {expected}"
        )
    return results


def from_numpy(operation: Operation, array: Array, found: Any) -> torch.Tensor:
    """The result as a tensor; raises WrongAnswer for what is no array of the dtype."""
    expected = f"expected a NumPy array {array.dtype} [{', '.join(array.axes)}]"
    if not isinstance(found, np.ndarray):
        raise WrongAnswer(f"{operation.name}: {array.name} is a {type(found).__name__}, {expected}")
    if found.dtype != np.dtype(array.dtype):
        raise WrongAnswer(f"{operation.name}: {array.name} has dtype {found.dtype}, {expected}")
    if not found.flags.writeable or any(stride < 0 for stride in found.strides):
        found = found.copy()  # what torch does not take
    return torch.from_numpy(found)


def from_lists(operation: Operation, array: Array, found: Any, dtype: torch.dtype) -> torch.Tensor:
    """Nested lists of integers, float32 as patterns 0..2^32-1, as a tensor.

    Raises WrongAnswer for lists that are ragged, and for what is no integer or does not fit the dtype.
    """
    where = f"{operation.name}: {array.name}"
    try:
        wide = torch.tensor(found)
    except (ValueError, TypeError, RuntimeError) as error:
        raise WrongAnswer(f"{where} is no array of integers: {error}") from None
    if wide.dtype != torch.int64:
        kind = str(wide.dtype).removeprefix("torch.")
        raise WrongAnswer(f"{where} has elements of {kind}, expected integers")
    if array.dtype == "float32":
        narrow = torch.where(wide >= 2**31, wide - 2**32, wide).to(torch.int32)
        fits = bool(((narrow.to(torch.int64) & 0xFFFFFFFF) == wide).all())
        narrow = narrow.view(torch.float32)
    else:
        narrow = wide.to(dtype)
        fits = torch.equal(narrow.to(torch.int64), wide)
    if not fits:
        outside = f"{int(wide.min())}..{int(wide.max())}"
        raise WrongAnswer(f"{where} has elements in {outside}, which do not fit {array.dtype}")
    return narrow
