"""Which results of a call have memory of their own: none may lie in an argument, or in another result.

Whoever gets such a result writes to it some day, and has changed what somebody else holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from ..operations import Operation


def results_fault(
    operation: Operation, results: Sequence[object], arguments: Sequence[torch.Tensor], device: str
) -> str | None:
    """What is wrong with results, in words, or None: each is a plain tensor on that type of device, in memory
    of its own. dtypes, shapes and elements are others' to compare."""
    for array, result in zip(operation.results, results, strict=False):
        where = f"{operation.name}: {array.name}"
        if type(result) is not torch.Tensor or result.layout != torch.strided:
            layout = f" of layout {result.layout}" if type(result) is torch.Tensor else ""
            return f"{where} is {type(result).__name__}{layout}, expected a plain torch.Tensor"
        if result.device.type != device:
            return f"{where} is on {result.device}, expected {device} as the arguments"
    return sharing(operation, [r for r in results if isinstance(r, torch.Tensor)], arguments)


def sharing(
    operation: Operation, results: Sequence[torch.Tensor], arguments: Iterable[torch.Tensor]
) -> str | None:
    """The first result that shares a byte with an argument or with a result before it, in words; None if each
    has memory of its own. Tensors are of any layout by strides and on any device: only addresses are read."""
    taken = [("an argument", argument) for argument in arguments]
    for array, result in zip(operation.results, results, strict=False):
        for name, other in taken:
            if overlap(result, other):
                return f"{operation.name}: {array.name} shares memory with {name}, expected memory of its own"
        taken.append((array.name, result))
    return None


def overlap(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two tensors have a byte in common. Parts of one buffer side by side have none."""
    spans = [_span(tensor) for tensor in (first, second)]
    begin, end = min(start for start, _ in spans), max(stop for _, stop in spans)
    if first.device != second.device or spans[0][1] <= spans[1][0] or spans[1][1] <= spans[0][0]:
        return False
    if first.is_contiguous() and second.is_contiguous():
        return True
    used = torch.zeros(end - begin, dtype=torch.bool, device="cpu")
    _bytes_of(first, used, begin).fill_(True)
    return bool(_bytes_of(second, used, begin).any())


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    """Addresses of the first byte and behind the last one; equal where there is no element."""
    start, size = tensor.data_ptr(), tensor.element_size()
    if not tensor.numel():
        return start, start
    steps = sum((extent - 1) * stride for extent, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + (steps + 1) * size


def _bytes_of(tensor: torch.Tensor, memory: torch.Tensor, begin: int) -> torch.Tensor:
    """The view of `memory`, a byte an element from the address `begin`, that the tensor's bytes are."""
    size = tensor.element_size()
    axes = [  # an expanded axis is the same bytes again
        (extent, stride) for extent, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride
    ]
    extents = [*(extent for extent, _ in axes), size]
    return memory.as_strided(extents, [*(stride * size for _, stride in axes), 1], tensor.data_ptr() - begin)
