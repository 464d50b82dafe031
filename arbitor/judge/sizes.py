"""How large a call is: what a file may ask of a backend is bounded before anybody is asked."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from arbitor.kernels.checks import check_call
from arbitor.kernels.operations import Operation
from arbitor.kernels.plugins.protocol import bytes_of, extents_of

LARGEST = 1 << 28  # bytes of all results
LONGEST = 1 << 40  # products of integers, as of matrices of 8192 rows and columns twice


def size_fault(operation: Operation, values: Mapping[str, Any]) -> str | None:
    """Why a legal call is too large for a file to ask for, in words, or None.

    Raises ValueError or TypeError, as `check_call` does, for a call that is not legal.
    """
    check_call(operation, values)
    extents = extents_of(operation, values)
    results = sum(bytes_of(result, extents) for result in operation.results)
    if results > LARGEST:
        return f"its results would have {results:,} bytes, expected at most {LARGEST:,}"
    letters = {axis for array in (*operation.arrays, *operation.results) for axis in array.axes}
    work = prod(extents[letter] for letter in letters if letter in extents)
    if work > LONGEST:
        return f"it would take {work:,} products of integers, expected at most {LONGEST:,}"
    return None
