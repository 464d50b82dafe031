"""Triton's interpreter for calls that are too large for it: the ends of a grid alone, and a look at every
address.

An address outside of the arrays of its launch ends the process elsewhere; here it is an AddressError.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

WHOLE = 72  # an axis of a grid of no more programs runs whole


class AddressError(Exception):
    """A kernel reads or writes outside of the arrays that it was given."""


class Looked:
    """The interpreter's own functions, those that touch memory behind a look at their addresses."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.arrays: list[tuple[int, int]] = []  # first byte of each and the one behind its last

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def look(self, addresses: Any, mask: Any) -> None:
        """Raises AddressError unless all that the mask has are of one of the arrays."""
        asked = addresses[mask]
        inside = np.zeros(asked.shape, bool)
        for start, end in self.arrays:
            inside |= (asked >= start) & (asked < end)
        if not inside.all():
            raise AddressError(f"{int((~inside).sum())} of {asked.size} addresses are outside of its arrays")

    def load(self, addresses: Any, mask: Any, *rest: Any) -> Any:
        self.look(addresses, mask)
        return self.inner.load(addresses, mask, *rest)

    def store(self, addresses: Any, values: Any, mask: Any) -> Any:
        self.look(addresses, mask)
        return self.inner.store(addresses, values, mask)

    def atomic_rmw(self, operation: Any, addresses: Any, values: Any, mask: Any, *rest: Any) -> Any:
        self.look(addresses, mask)
        return self.inner.atomic_rmw(operation, addresses, values, mask, *rest)


def extent_of(tensor: torch.Tensor) -> tuple[int, int]:
    """Addresses of its storage."""
    start = tensor.untyped_storage().data_ptr()
    return start, start + tensor.untyped_storage().nbytes()


def lazy_zeros(*shape: int, dtype: torch.dtype, device: object = None) -> torch.Tensor:
    """`torch.zeros` on a CPU, of memory that the system gives when it is written: torch writes it all."""
    words = np.zeros(shape, str(dtype).removeprefix("torch."))
    return torch.from_numpy(words)


@contextmanager
def ends_of_grids(programs: int) -> Iterator[None]:
    """Kernels run so many first and last programs of every long axis of their grid. Nothing is copied back,
    which on a CPU would be memory onto itself, and zeros are lazy."""
    interpreter: Any = importlib.import_module("triton.runtime.interpreter")
    executor = interpreter.GridExecutor
    looked = Looked(interpreter._interpreter)
    given, restored, zeros = executor._init_args_hst, executor._restore_args_dev, torch.zeros

    def ends(*bounds: int) -> Any:
        whole = range(*bounds)
        if len(bounds) > 1 or len(whole) <= WHOLE:
            return whole
        return [*whole[:programs], *whole[-programs:]]

    def taken(self: Any, positional: Any, named: Any) -> Any:
        values = [getattr(value, "base", value) for value in (*positional, *named.values())]
        looked.arrays = [extent_of(value) for value in values if isinstance(value, torch.Tensor)]
        return given(self, positional, named)

    interpreter.range = ends
    interpreter._interpreter = looked
    executor._init_args_hst, executor._restore_args_dev = taken, lambda *_: None
    torch.zeros = lazy_zeros  # type: ignore[assignment]
    try:
        yield
    finally:
        del interpreter.range
        interpreter._interpreter = looked.inner
        executor._init_args_hst, executor._restore_args_dev, torch.zeros = given, restored, zeros
