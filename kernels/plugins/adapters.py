"""Calls of a backend whose arrays are not torch tensors.

The contract is in torch tensors. A NumPy backend sees the same memory (in-place arguments are written
through); a backend on lists sees copies, which are written back. float32 travels to lists as bit patterns, so
nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..checks import DTYPES
from ..operations import Array, Operation
from .answers import from_lists, from_numpy, results_of

Adapter = Callable[[Operation, Callable[..., Any], Mapping[str, Any], "str | torch.device"], Any]


def call_torch(
    operation: Operation, function: Callable[..., Any], values: Mapping[str, Any], device: str | torch.device
) -> Any:
    """Call a function on torch tensors."""
    arguments = [values[name] for name in operation.arguments]
    result = function(*arguments) if operation.arrays else function(*arguments, device=device)
    return _each(operation, result, lambda array, found: found)


def call_numpy(
    operation: Operation, function: Callable[..., Any], values: Mapping[str, Any], device: str | torch.device
) -> Any:
    """Call a function on NumPy arrays that share the tensors' memory; CPU only."""
    _refuse_other_devices(operation, values, device)
    names = {array.name for array in operation.arrays}
    result = function(*(values[n].detach().numpy() if n in names else values[n] for n in operation.arguments))
    return _each(operation, result, lambda array, found: from_numpy(operation, array, found))


def call_lists(
    operation: Operation, function: Callable[..., Any], values: Mapping[str, Any], device: str | torch.device
) -> Any:
    """Call a function on nested lists of integers; float32 as 32-bit patterns."""
    _refuse_other_devices(operation, values, device)
    lists = {array.name: _to_lists(values[array.name]) for array in operation.arrays}
    result = function(*(lists.get(name, values[name]) for name in operation.arguments))
    for array in operation.arrays:
        if array.in_place:
            values[array.name].copy_(from_lists(operation, array, lists[array.name], DTYPES[array.dtype]))
    return _each(
        operation, result, lambda array, found: from_lists(operation, array, found, DTYPES[array.dtype])
    )


def _refuse_other_devices(
    operation: Operation, values: Mapping[str, Any], device: str | torch.device
) -> None:
    devices = [values[array.name].device for array in operation.arrays] or [torch.device(device)]
    if devices[0].type != "cpu":
        raise ValueError(
            f"{operation.name}: this backend runs on the CPU only, the arrays are on {devices[0]}"
        )


def _each(operation: Operation, result: Any, convert: Callable[[Array, Any], Any]) -> Any:
    results = results_of(operation, result)
    taken = [convert(array, part) for array, part in zip(operation.results, results, strict=True)]
    return taken[0] if len(taken) == 1 else tuple(taken)


def _to_lists(tensor: torch.Tensor) -> Any:
    if tensor.dtype == torch.float32:
        return (tensor.detach().contiguous().view(torch.int32).to(torch.int64) & 0xFFFFFFFF).tolist()
    return tensor.tolist()


ADAPTERS: dict[str, Adapter] = {"torch": call_torch, "numpy": call_numpy, "lists": call_lists}
