"""Reproductions: a failing call as Python text if it is small; artifacts (archive.py) keep any call."""

from __future__ import annotations

from typing import Any

import torch

SMALL = 200  # elements that still fit a message


def reproduction(operation: str, arguments: dict[str, Any], backend: str) -> str:
    """Lines that repeat the call against its judge."""
    tensors = [value for value in arguments.values() if isinstance(value, torch.Tensor)]
    elements = sum(tensor.numel() for tensor in tensors)
    if elements > SMALL:
        return f"arbitor replay FILE, the test's artifact: {elements:,} elements are too many for text"
    values = ", ".join(f"{name}={literal(value)}" for name, value in arguments.items())
    return (
        "import torch; from arbitor.conformance.judge.target import target_of\n"
        f"target_of({backend!r}).check({operation!r}, dict({values}))"
    )


def literal(value: Any) -> str:
    """An argument as Python text; float32 by its bits, since text loses the payload of a NaN."""
    if not isinstance(value, torch.Tensor):
        return repr(value)
    value = value.cpu().contiguous()
    if value.dtype == torch.float32:
        return f"torch.tensor({value.view(torch.int32).tolist()}, dtype=torch.int32).view(torch.float32)"
    return f"torch.tensor({value.tolist()}, dtype={value.dtype})"
