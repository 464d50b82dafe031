"""What cheats are made from: the honest operations, and lies around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from arbitor.kernels import eager
from arbitor.kernels.operations import OPERATIONS

Function = Callable[..., Any]
Lie = Callable[[str, Function], Function]

HONEST: dict[str, Function] = {name: getattr(eager, name) for name in OPERATIONS}
PURE = tuple(name for name, table in OPERATIONS.items() if not any(array.in_place for array in table.arrays))
UPDATES = tuple(name for name in OPERATIONS if name not in PURE)


def every(lie: Lie, operations: tuple[str, ...] = tuple(OPERATIONS)) -> dict[str, Function]:
    """All operations, those named with the lie around them."""
    return HONEST | {name: lie(name, HONEST[name]) for name in operations}


def each(found: Any, change: Callable[[torch.Tensor], Any]) -> Any:
    """The results of a call, one or a tuple, each changed."""
    return tuple(map(change, found)) if isinstance(found, tuple) else change(found)


def instead(answer: Callable[[], object]) -> Lie:
    """Nothing is computed: whatever `answer` gives or raises is the result."""

    def lie(operation: str, honest: Function) -> Function:
        def function(*arguments: Any, **named: Any) -> Any:
            return answer()

        return function

    return lie


def products_in(dtype: torch.dtype) -> dict[str, Function]:
    """All operations, the weight gradient made in that dtype."""

    def weight_gradient(q_g: torch.Tensor, q_x: torch.Tensor) -> torch.Tensor:
        return (q_g.t().to(dtype) @ q_x.to(dtype)).to(torch.int32)

    return HONEST | {"weight_gradient": weight_gradient}


def tensors(arguments: tuple[Any, ...]) -> list[torch.Tensor]:
    """The arrays among the arguments."""
    return [value for value in arguments if isinstance(value, torch.Tensor)]
