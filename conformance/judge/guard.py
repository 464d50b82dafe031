"""What a backend may not do while it is called: ask the judge, end the test, or answer with something that is
no result yet.

`watch` wraps the operations of a backend under test. `fence_judges` makes every function of the reference and
of the oracle ask first who is calling. What is tried is remembered until the call is over, so that a backend
that catches the error has won nothing. While it is called the suite holds the arguments as bytes (`hold`),
and no expected result, for there is none yet. A module shares the process with its judge all the same; a
program does not (docs/cheats.md).
"""

from __future__ import annotations

import dis
import importlib
import inspect
import pkgutil
import unittest
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis.errors import HypothesisException

from arbitor.conformance.judge.compare import bits
from arbitor.kernels.operations import OPERATIONS, Operation
from arbitor.kernels.registry import Backend

# Exceptions after which pytest or Hypothesis gives no verdict; all others of theirs are no Exception
ENDS = (pytest.exit.Exception, unittest.SkipTest, HypothesisException)
JUDGES = ("arbitor.reference", "arbitor.conformance.oracle")
# files of the judges of which only the operations are fenced: the rest is called for every element or check
SMALL = ("limits", "philox", "checks", "random_bits", "float32")
Function = Callable[..., Any]

_running: list[str] = []  # modules of the backends that are being called, the innermost last
_asked: list[str] = []  # functions of the judge that were called meanwhile
_fenced: set[int] = set()


class Dishonest(BaseException):
    """A backend that did what no honest one does: the end of this test, and of no other.

    No Exception, so that it is never taken for the refusal of an illegal call, and Hypothesis does not look
    for a smaller one.
    """


class Held(NamedTuple):
    """An array as bytes, which nobody finds among the tensors of the process, and nobody writes to."""

    dtype: torch.dtype
    shape: torch.Size
    data: bytes


def hold(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call with every tensor as bytes."""
    return {
        name: Held(value.dtype, value.shape, bits(value).tobytes())
        if isinstance(value, torch.Tensor)
        else value
        for name, value in arguments.items()
    }


def given(held: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that were held, in new contiguous tensors on the CPU."""
    return {
        name: torch.frombuffer(bytearray(value.data), dtype=value.dtype).view(value.shape)
        if isinstance(value, Held)
        else value
        for name, value in held.items()
    }


def is_other(held: Held, tensor: torch.Tensor) -> bool:
    """Whether the elements are other bytes than those that were held."""
    return held.data != bits(tensor).tobytes()


def taken(found: Mapping[str, Any]) -> dict[str, Any]:
    """Results copied to the CPU: what is still written to them on another stream or thread comes too late."""
    return {
        name: value.detach().clone().cpu() if isinstance(value, torch.Tensor) else value
        for name, value in found.items()
    }


def fence_judges() -> None:
    """Make the public functions of both judges refuse to work for a backend under test, but for small ones.

    Their code is exchanged and not their names: a function that somebody has imported before is the same one.
    """
    for judge in JUDGES:
        for module in modules_of(judge):
            for function in filter(_is_asked, list(vars(module).values())):
                if function.__module__.startswith(judge) and id(function) not in _fenced:
                    _fence(function, judge)


def modules_of(judge: str) -> Iterator[ModuleType]:
    """A package and all modules below it, imported."""
    package = importlib.import_module(judge)
    yield package
    for found in pkgutil.walk_packages(package.__path__, f"{judge}."):
        yield importlib.import_module(found.name)


def _is_asked(value: object) -> bool:
    """Whether it is a function that is fenced: an operation, or another that says something about one."""
    if not isinstance(value, FunctionType) or value.__closure__ or value.__name__.startswith("_"):
        return False
    return value.__name__ in OPERATIONS or value.__module__.rpartition(".")[2] not in SMALL


def _fence(function: FunctionType, judge: str) -> None:
    original = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    original.__kwdefaults__ = function.__kwdefaults__

    def call(*positional: Any, **named: Any) -> Any:
        if _running and _running[0] != judge:  # the first: a judge that is called by name is in the list too
            _asked.append(f"{function.__module__}.{function.__name__}")
            raise Dishonest(f"{_asked[-1]} was called by a backend")
        return original(*positional, **named)

    function.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
    code = _gate.__code__
    constants = tuple(call if constant == "call" else constant for constant in code.co_consts)
    function.__code__ = code.replace(co_consts=constants, co_name=function.__name__)
    function.__defaults__ = function.__kwdefaults__ = None
    _fenced.add(id(function))


def _gate(*positional: Any, **named: Any) -> Any:
    call: Any = "call"  # the place of what a function is exchanged for
    return call(*positional, **named)


def watch(backend: Backend) -> Backend:
    """The same backend, its operations wrapped once: they raise Dishonest where it asks the judge or ends the
    test, and AssertionError for what is no plain tensor of its own.

    What it declares to lack stays as it is: declared.py has a skip there.
    """
    if not vars(backend).setdefault("_watched", False):
        for operation in OPERATIONS.values():
            if operation.name not in backend.gaps:
                setattr(backend, operation.name, _watched(backend, operation))
        vars(backend)["_watched"] = True
    return backend


def _watched(backend: Backend, operation: Operation) -> Function:
    function: Function = getattr(backend, operation.name)
    module = backend.module.__name__

    def call(*positional: Any, **named: Any) -> Any:
        _running.append(module)
        try:
            found = function(*positional, **named)
        except BaseException as error:
            _running.pop()
            _refuse_asked(backend, operation.name)
            _refuse_ends(backend, operation.name, error)
            raise
        _running.pop()
        _refuse_asked(backend, operation.name)
        _check_results(operation, found, positional, named)
        return found

    call.__name__ = operation.name
    call.__doc__ = function.__doc__
    return call


def _refuse_asked(backend: Backend, operation: str) -> None:
    if not _asked:
        return
    names = ", ".join(dict.fromkeys(_asked))
    if not _running:
        _asked.clear()
    raise Dishonest(f"{backend.name}: {operation} called the judge ({names}) for its answer")


def _refuse_ends(backend: Backend, operation: str, error: BaseException) -> None:
    """Raise Dishonest for what would end a test without a verdict; but Ctrl-C is the user's."""
    by_signal = isinstance(error, KeyboardInterrupt) and not _by_hand(error)
    if by_signal or (isinstance(error, Exception | Dishonest) and not isinstance(error, ENDS)):
        return
    words = f"raised {type(error).__name__} ({error}), which would end the test without a verdict"
    raise Dishonest(f"{backend.name}: {operation} {words}; it was no refusal") from None


def _by_hand(error: BaseException) -> bool:
    """Whether a `raise` raised it: a signal does that between any two instructions."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    return dis.opname[trace.tb_frame.f_code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"


def _check_results(
    operation: Operation, found: Any, positional: tuple[Any, ...], named: Mapping[str, Any]
) -> None:
    """Raises AssertionError for a result that is no plain tensor, elsewhere than the arguments, or in the
    memory of one. dtypes, shapes and elements are compared later, with the judge's."""
    results = found if isinstance(found, tuple) else (found,)
    tensors = [value for value in (*positional, *named.values()) if isinstance(value, torch.Tensor)]
    device = tensors[0].device if tensors else torch.device(named.get("device", "cpu"))
    memory = [(tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes) for tensor in tensors]
    for array, result in zip(operation.results, results, strict=False):
        if type(result) is not torch.Tensor or result.layout != torch.strided:
            layout = f" of layout {result.layout}" if type(result) is torch.Tensor else ""
            words = f"is {type(result).__name__}{layout}, expected a plain torch.Tensor"
        elif result.device.type != device.type:
            words = f"is on {result.device}, expected {device} as the arguments"
        else:
            start, stop = result.data_ptr(), result.data_ptr() + result.nbytes
            if not any(begin < stop and start < end for begin, end in memory):
                continue
            words = "shares memory with an argument, expected memory of its own"
        raise AssertionError(f"{operation.name}: {array.name} {words}")
