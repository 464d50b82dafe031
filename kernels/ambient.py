"""One guard around every call of a backend: what the thread is set to does not reach an exact result.

Fixed for the time of a call, and put back: autocast (products would be rounded to 8 bits), inference mode and
gradients (results are plain tensors, whoever asked for them), the default device, what NumPy does at an
overflow, and flush-to-zero, by which a processor takes subnormals for zeros. Another rounding than to nearest
is refused: nothing of torch sets it.

Left as they are, because no kernel of ours depends on them, are the default dtype, deterministic mode and the
number of threads: they are of the whole process, and another thread may be at work with them. The precision
of float32 products too: operands have 8 bits, which bfloat16 and TF32 hold, and sums are of float32. Threads
that torch started while the processor flushed will flush for ever, out of the guard's reach, so `eager`
computes with integers where subnormals count.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch.utils.dlpack import from_dlpack

from .operations import Operation

KINDS = ("cpu", "cuda")  # of devices, as autocast has them
_NUMPYS: Any = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}  # as it starts
_SMALLEST, _HALF = sys.float_info.min, 0.5  # smallest normal float64
_ONE, _LESS, _MORE = 1.0, sys.float_info.epsilon / 4, sys.float_info.epsilon * 3 / 4  # than half a step at 1


def guarded(
    adapt: Callable[..., Any],
    operation: Operation,
    function: Callable[..., Any],
    values: Mapping[str, Any],
    device: str | torch.device,
) -> Any:
    """What `adapt` of the other arguments gives, whatever this thread is set to.

    Raises RuntimeError where floats are not rounded to nearest.
    """
    made_in_inference = [a.name for a in operation.arrays if a.in_place and values[a.name].is_inference()]
    if not made_in_inference and is_plain():
        return adapt(operation, function, values, device)
    with plain():
        # of an inference tensor nothing may be written out of its mode; this one shares its memory
        writable = {name: from_dlpack(values[name]) for name in made_in_inference}
        return adapt(operation, function, {**values, **writable}, device)


def is_plain() -> bool:
    """Whether this thread is set to nothing that would reach a result."""
    return not (
        _SMALLEST * _HALF == 0.0
        or any(map(torch.is_autocast_enabled, KINDS))
        or torch.is_inference_mode_enabled()
        or torch._C._len_torch_function_stack()
        or np.geterr() != _NUMPYS
        or not _rounds_to_nearest()
    )


@contextmanager
def plain() -> Iterator[None]:
    """This thread as a new process has it, but for gradients, which are off. Raises RuntimeError as above."""
    if not _rounds_to_nearest():
        raise RuntimeError("this thread does not round floats to nearest (fesetround), which results need")
    cast = [kind for kind in KINDS if torch.is_autocast_enabled(kind)]
    flushes = _SMALLEST * _HALF == 0.0
    device = torch.device("cpu") if torch._C._len_torch_function_stack() else nullcontext()
    with torch.inference_mode(False), torch.no_grad(), device, np.errstate(**_NUMPYS):
        try:
            for kind in cast:
                torch.set_autocast_enabled(kind, False)
            if flushes:
                torch.set_flush_denormal(False)
            yield
        finally:
            if flushes:
                torch.set_flush_denormal(True)
            for kind in cast:
                torch.set_autocast_enabled(kind, True)


def _rounds_to_nearest() -> bool:
    return _ONE + _LESS == _ONE != _ONE + _MORE
