"""Optional fusion on CUDA: with ARB_TORCH_COMPILE=1 the elementwise pieces go through torch.compile.

The pieces are the same functions either way, and integers leave a compiler no freedom. Shapes are compiled as
constants; numbers that change from call to call travel as tensors (`scalar`), because a symbolic integer is
64 bits wide in the generated code whatever it is added to, which breaks bit casts (torch 2.11, docs/log/).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch

ENVIRONMENT_VARIABLE = "ARB_TORCH_COMPILE"
_compiled: dict[Callable[..., Any], Callable[..., Any]] = {}


def is_fused(device: torch.device) -> bool:
    """Whether work on this device is compiled."""
    return device.type == "cuda" and os.environ.get(ENVIRONMENT_VARIABLE) == "1"


def fused(function: Callable[..., Any], like: torch.Tensor) -> Callable[..., Any]:
    """`function`, compiled if the environment asks for it and the work is on CUDA."""
    if not is_fused(like.device):
        return function
    if function not in _compiled:
        _compiled[function] = torch.compile(function, dynamic=False)
    return _compiled[function]


def scalar(value: int, like: torch.Tensor) -> int | torch.Tensor:
    """An integer that changes from call to call: itself, or an int64 tensor [] for compiled work."""
    return _on_device(value, like.device) if is_fused(like.device) else value


@lru_cache(maxsize=1024)
def _on_device(value: int, device: torch.device) -> torch.Tensor:
    return torch.tensor(value, device=device)
