"""Arguments that nobody else writes to, results that are taken at once, and what a result has to be.

A stranger's code is in another process (kernels/plugins/apart.py) and has nothing of this one. Ours runs
here: it is trusted not to cheat, and not to be right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from arbitor.conformance.judge.compare import bits
from arbitor.kernels.operations import OPERATIONS, Operation
from arbitor.kernels.plugins.memory import results_fault
from arbitor.kernels.registry import Backend

Function = Callable[..., Any]


class Held(NamedTuple):
    """An array as bytes, which nobody finds among the tensors of the process, and nobody writes to."""

    dtype: torch.dtype
    shape: torch.Size
    data: bytes


def hold(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call with every tensor as bytes."""
    return {
        name: Held(value.dtype, value.shape, bits(value).tobytes())
        if isinstance(value, torch.Tensor)
        else value
        for name, value in arguments.items()
    }


def given(held: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that were held, in new contiguous tensors on the CPU."""
    return {
        name: torch.frombuffer(bytearray(value.data), dtype=value.dtype).view(value.shape)
        if isinstance(value, Held)
        else value
        for name, value in held.items()
    }


def is_other(held: Held, tensor: torch.Tensor) -> bool:
    """Whether the elements are other bytes than those that were held."""
    return held.data != bits(tensor).tobytes()


def taken(found: Mapping[str, Any]) -> dict[str, Any]:
    """Results copied to the CPU: what is still written to them on another stream or thread comes too late."""
    return {
        name: value.detach().clone().cpu() if isinstance(value, torch.Tensor) else value
        for name, value in found.items()
    }


def watch(backend: Backend) -> Backend:
    """The same backend, its operations wrapped once: they raise AssertionError for what is no plain tensor of
    its own.

    What it declares to lack stays as it is: declared.py has a skip there.
    """
    if not vars(backend).setdefault("_watched", False):
        for operation in OPERATIONS.values():
            if operation.name not in backend.gaps:
                setattr(backend, operation.name, _watched(backend, operation))
        vars(backend)["_watched"] = True
    return backend


def _watched(backend: Backend, operation: Operation) -> Function:
    function: Function = getattr(backend, operation.name)

    def call(*positional: Any, **named: Any) -> Any:
        found = function(*positional, **named)
        _check_results(operation, found, positional, named)
        return found

    call.__name__ = operation.name
    call.__doc__ = function.__doc__
    return call


def _check_results(
    operation: Operation, found: Any, positional: tuple[Any, ...], named: Mapping[str, Any]
) -> None:
    """Raises AssertionError for a result that is no plain tensor, elsewhere than the arguments, or in the
    memory of one or of another result. dtypes, shapes and elements are compared later, with the judge's."""
    results = found if isinstance(found, tuple) else (found,)
    tensors = [value for value in (*positional, *named.values()) if isinstance(value, torch.Tensor)]
    device = tensors[0].device if tensors else torch.device(named.get("device", "cpu"))
    fault = results_fault(operation, results, tensors, device.type)
    if fault is not None:
        raise AssertionError(fault)
