"""What torch.compile is to leave as it is: it would fuse products into sums (ARB-FLOAT-001)."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch

F = TypeVar("F", bound=Callable[..., Any])


def uncompiled(function: F) -> F:
    """The function, at which a graph of torch.compile ends and behind which another begins.

    The decorator torch.compiler.disable imports torch._dynamo and triton with the module that has it: too
    early for the interpreter, which is asked for by name.
    """

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        if torch.compiler.is_compiling():
            return torch.compiler.disable(function)(*arguments, **named)
        return function(*arguments, **named)

    return call  # type: ignore[return-value]
