"""The reference for tensors on another device: every call goes to the CPU and back.

Whole trajectories are compared on one device, because the float parts of a model (softmax, norms) round
differently on
another. With this a GPU's trajectory has a second opinion whose integers are the reference's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from arbitor.kernels.operations import OPERATIONS, Operation
from arbitor.kernels.registry import select

ARRAYS = "torch"


def _there_and_back(operation: Operation) -> Callable[..., Any]:
    def function(*arguments: Any, device: str | torch.device | None = None) -> Any:
        tensors = [value for value in arguments if isinstance(value, torch.Tensor)]
        home = tensors[0].device if tensors else device
        copies = [value.cpu() if isinstance(value, torch.Tensor) else value for value in arguments]
        found = getattr(select("reference"), operation.name)(*copies)
        for array, mine, copy in zip(operation.arrays, arguments, copies, strict=False):
            if array.in_place:
                mine.copy_(copy)
        return tuple(part.to(home) for part in found) if isinstance(found, tuple) else found.to(home)

    return function


globals().update({name: _there_and_back(operation) for name, operation in OPERATIONS.items()})
