"""Optional fusion on CUDA: with ARB_TORCH_COMPILE=1 the elementwise pieces go through torch.compile.

The pieces are the same functions either way, and the conformance suite holds both; integers leave the compiler no
freedom. It costs a minute of compilation and saves most of a step: Philox alone is 120 launches without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch

ENVIRONMENT_VARIABLE = "ARB_TORCH_COMPILE"
_compiled: dict[Callable[..., Any], Callable[..., Any]] = {}


def fused(function: Callable[..., Any], like: torch.Tensor) -> Callable[..., Any]:
    """`function`, compiled if the environment asks for it and the work is on CUDA."""
    if not like.is_cuda or os.environ.get(ENVIRONMENT_VARIABLE) != "1":
        return function
    if function not in _compiled:
        _compiled[function] = torch.compile(function)
    return _compiled[function]
