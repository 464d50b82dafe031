"""What a process may be set to, as context managers that set it and put it back: no exact result may change.

Optimised Python is set when a process starts, so tests of it start one; a rounding mode is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch

Setting = Callable[[str], AbstractContextManager[Any]]  # of a type of device

REDUCTIONS = ("allow_bf16_reduced_precision_reduction", "allow_fp16_reduced_precision_reduction")
PARALLEL = 1 << 20  # elements of which torch gives each of its threads some


def of_this_thread() -> dict[str, Any]:
    """What this thread is set to, of all that the settings below change."""
    smallest = np.finfo(np.float64).smallest_normal
    return {
        "autocast": [(torch.is_autocast_enabled(k), torch.get_autocast_dtype(k)) for k in ("cpu", "cuda")],
        "flush": bool(smallest * np.float64(0.5) == 0),
        "inference": torch.is_inference_mode_enabled(),
        "gradients": torch.is_grad_enabled(),
        "device": str(torch.get_default_device()),
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "products": torch.get_float32_matmul_precision(),
        "numpy": np.geterr(),
        "onednn": torch.backends.mkldnn.enabled,
        "reductions": [getattr(torch.backends.cuda.matmul, name) for name in REDUCTIONS],
    }


@contextmanager
def _kept(get: Callable[[], Any], change: Callable[[Any], object], value: Any) -> Iterator[None]:
    before = get()
    change(value)
    try:
        yield
    finally:
        change(before)


def _dtype(dtype: torch.dtype) -> Setting:
    return lambda device: _kept(torch.get_default_dtype, torch.set_default_dtype, dtype)


def _threads(count: int) -> Setting:
    return lambda device: _kept(torch.get_num_threads, torch.set_num_threads, count)


@contextmanager
def _flushing(device: str) -> Iterator[None]:
    torch.ones(PARALLEL).add_(1)  # threads that torch starts from now on would flush for ever
    with _kept(lambda: False, torch.set_flush_denormal, True):
        yield


@contextmanager
def _default_device(device: str) -> Iterator[None]:
    """As `torch.set_default_device` has it, which ends with None and not with another device."""
    with _kept(lambda: None, torch.set_default_device, "meta"):
        yield


@contextmanager
def _coarse(device: str) -> Iterator[None]:
    """Float32 products and reductions as coarse as torch offers them."""
    cuda = torch.backends.cuda.matmul
    before = {name: getattr(cuda, name) for name in REDUCTIONS}
    with _kept(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "medium"):
        for name in REDUCTIONS:
            setattr(cuda, name, True)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(cuda, name, value)


def _deterministic(device: str) -> AbstractContextManager[None]:
    get, change = torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms
    return _kept(get, change, True)


def _without_onednn(device: str) -> AbstractContextManager[None]:
    onednn: Any = torch.backends.mkldnn
    return _kept(lambda: onednn.enabled, lambda value: setattr(onednn, "enabled", value), False)


def _autocast(dtype: torch.dtype) -> Setting:
    return lambda device: torch.autocast(device, dtype)


# those under which nothing can be learnt, and those that are meant for the float work of a model
NO_TRAINING = ("inference mode", "no gradients")
CASTS = ("autocast bfloat16", "autocast float16")
SETTINGS: dict[str, Setting] = {
    "autocast bfloat16": _autocast(torch.bfloat16),
    "autocast float16": _autocast(torch.float16),
    "flush to zero": _flushing,
    "default float64": _dtype(torch.float64),
    "default bfloat16": _dtype(torch.bfloat16),
    "inside a device": lambda device: torch.device("meta"),
    "default device": _default_device,
    "inference mode": lambda device: torch.inference_mode(),
    "no gradients": lambda device: torch.no_grad(),
    "gradients": lambda device: torch.enable_grad(),
    "coarse products": _coarse,
    "deterministic": _deterministic,
    "one thread": _threads(1),
    "three threads": _threads(3),
    "NumPy raises": lambda device: np.errstate(all="raise"),
    "without oneDNN": _without_onednn,
}


def in_flushing_threads(work: Callable[[], Any]) -> Any:
    """What `work` gives in a thread that does not flush, while those that torch gives it for parts of the
    work do. Raises RuntimeError where there are no such threads."""
    with ThreadPoolExecutor(1) as fresh, _threads(2)("cpu"):
        return fresh.submit(_in_flushing_threads, work).result()


def _in_flushing_threads(work: Callable[[], Any]) -> Any:
    torch.set_num_threads(2)
    torch.set_flush_denormal(True)
    torch.ones(PARALLEL).add_(1)  # they start here, and inherit it
    torch.set_flush_denormal(False)
    small = torch.ones(PARALLEL, dtype=torch.int32).view(torch.float32)
    if not 0 < int((small * 2.0**100 == 0).sum()) < PARALLEL:
        raise RuntimeError("no thread of torch flushes")
    return work()
