"""A stranger's Python module in a process of its own, as a module here: what judges never imports it.

The module is imported by a server (server.py), started and ended as a program is (program.py). A call sends
the arguments and brings back what became of them, and the results; nothing else of this process is to be had
over there, and no code of the stranger's is run here.
"""

from __future__ import annotations

import builtins
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from ..operations import OPERATIONS, Operation
from ..reading import said
from . import protocol
from .answers import BackendUnavailable, WrongAnswer, plain_arguments
from .program import NotBegun, Program
from .wire import ALIGNMENT, ROOM, Memory, Sent, results_from

START = "import sys; sys.path[:] = {path!r}; from arbitor.kernels.plugins.server import main; main()"
MOST_WARNINGS = 3  # of a call
# errors that say enough without a traceback
ITSELF = (ValueError, TypeError, NotImplementedError, AssertionError)

OURS: dict[str, type[Exception]] = {error.__name__: error for error in (WrongAnswer, BackendUnavailable)}

_patterns: list[int] = []  # of the arenas that are active, the innermost last


class BackendWarning(UserWarning):
    """A warning of a stranger's module."""


class RemoteError(RuntimeError):
    """What a stranger's module raised that is no exception of Python's own, or none at all."""


@contextmanager
def poisoned(pattern: int) -> Iterator[None]:
    """While active, modules in other processes work on memory of that pattern, between red zones."""
    _patterns.append(pattern)
    try:
        yield
    finally:
        _patterns.pop()


def module_of(name: str) -> ModuleType:
    """The module of that name or file as the server has it.

    Raises what its import raised, and ProgramFailed if the process itself ended.
    """
    memory = Memory.new()
    words = [sys.executable, "-c", START.format(path=_path()), name, str(memory.descriptor)]
    program = Program([*words, str(torch.get_num_threads())], keep=(memory.descriptor,))
    try:
        program.start()
        hello = _checked(program.hello)
    except NotBegun as error:
        raise exception_of(error.told) from None
    except WrongAnswer:
        program.stop()
        raise
    module = ModuleType(hello["module"], doc=f"{name}, in a process of its own")
    remote = _Remote(hello["module"], program, memory)
    vars(module).update(
        {operation: remote.function(OPERATIONS[operation]) for operation in hello["operations"]}
    )
    arrays = hello["arrays"]  # what it works on; over here all are tensors
    vars(module).update(ARRAYS=arrays, HANDED="torch", PROCESS=program)
    if hello["capabilities"] is not None:
        vars(module)["CAPABILITIES"] = hello["capabilities"]
    for question in hello["answers"]:
        vars(module)[question] = remote.question(question)
    return module


def _checked(hello: dict[str, Any]) -> dict[str, Any]:
    """The hello of a module; raises WrongAnswer for what is none."""
    fits = (
        isinstance(hello.get("module"), str)
        and isinstance(hello.get("arrays"), str)
        and _are(hello.get("operations"), OPERATIONS)
        and _are(hello.get("answers"), protocol.QUESTIONS)
        and "capabilities" in hello
    )
    if not fits:
        raise WrongAnswer(f"its hello is {said(hello)}, expected what it has and answers")
    return hello


def _are(names: Any, known: Iterable[str]) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) and name in known for name in names)


def _ways_of(found: Any) -> dict[str, list[str]]:
    """What `configurations` answered; raises WrongAnswer for anything else than ways by operation."""
    fits = isinstance(found, dict) and all(
        name in OPERATIONS and isinstance(ways, list) and all(isinstance(way, str) for way in ways)
        for name, ways in found.items()
    )
    if not fits:
        raise WrongAnswer(f"configurations are {said(found)}, expected names by operation")
    return dict(found)


def _path() -> list[str]:
    """Where modules are looked for, as here; relative places from this folder."""
    return list(dict.fromkeys(str(Path(entry or ".").resolve()) for entry in sys.path))


class _Remote:
    """The functions of a module over there."""

    def __init__(self, name: str, program: Program, memory: Memory) -> None:
        self.name, self.program, self.memory = name, program, memory

    def question(self, name: str) -> Callable[..., Any]:
        """An optional function of the module: why_not, why_not_auto, configurations."""

        def ask(*arguments: Any) -> Any:
            answer = self.program.ask({"ask": name, "arguments": arguments})
            if "error" in answer:
                raise exception_of(answer["error"])
            if name != "configurations":
                found = answer.get("answer")
                return found if found is None else str(found)
            return {
                operation: {way: self.function(OPERATIONS[operation], way) for way in ways}
                for operation, ways in _ways_of(answer.get("answer")).items()
            }

        return ask

    def function(self, operation: Operation, way: str | None = None) -> Callable[..., Any]:
        """One operation, on torch tensors."""

        def call(*arguments: Any, device: str | torch.device = "cpu") -> Any:
            values = dict(zip(operation.arguments, arguments, strict=True))
            found = self._call(operation, values, torch.device(device).type, way)
            return tuple(found) if len(found) > 1 else found[0]

        call.__name__ = operation.name
        call.__doc__ = f"`{operation.name}` by the module in its process."
        return call

    def _call(
        self, operation: Operation, values: Mapping[str, Any], device: str, way: str | None
    ) -> list[torch.Tensor]:
        tensors = {array.name: values[array.name] for array in operation.arrays}
        device = next(iter(tensors.values())).device.type if tensors else device
        sent = Sent(tensors)
        size = sent.end + _room(operation, values) + ROOM
        self.memory.reserve(size)
        sent.copy_in(self.memory)
        request = {
            "operation": operation.name,
            "tensors": sent.places,
            "scalars": {name: values[name] for name in operation.scalars},
            "device": device,
            "size": size,
            "free": sent.end,
            "configuration": way,
            "poison": _patterns[-1] if _patterns else None,
        }
        answer = self.program.ask(request)
        if answer.get("ends") is True:  # its CUDA context is lost: the next call has another process
            self.program.stop()
        sent.bring_back(self.memory)
        for words in answer.get("warnings", [])[:MOST_WARNINGS]:
            warnings.warn(f"{self.name}: {str(words)[:500]}", BackendWarning, stacklevel=2)
        if "error" in answer:
            raise exception_of(answer["error"])
        names = [array.name for array in operation.results]
        return results_from(answer.get("results"), names, self.memory, operation.name, device)


def _room(operation: Operation, values: Mapping[str, Any]) -> int:
    """Bytes of the results that the table of operations expects."""
    extents = protocol.extents_of(operation, values)
    return sum(protocol.bytes_of(array, extents) + ALIGNMENT for array in operation.results)


def exception_of(told: Any) -> Exception:
    """The exception that an answer speaks of: one of Python's own as it is, any other as RemoteError."""
    if not isinstance(told, dict) or not all(isinstance(told.get(key), str) for key in ("kind", "message")):
        raise WrongAnswer(f"error is {str(told)[:120]}, expected its kind and message")
    kind, message = told["kind"], told["message"]
    if kind in OURS:
        return OURS[kind](message)
    if kind in ("ModuleNotFoundError", "ImportError"):
        found: Exception = getattr(builtins, kind)(message, name=told.get("name"))
    else:
        own = getattr(builtins, kind, None)
        if not (isinstance(own, type) and issubclass(own, Exception)):
            found = RemoteError(f"{kind}: {message}")
        else:
            try:
                found = own(*plain_arguments(told.get("args")) or [message])
            except TypeError:
                found = RemoteError(f"{kind}: {message}")
    if not isinstance(found, ITSELF) and isinstance(told.get("trace"), str):
        found.add_note(f"in the backend's process:\n{told['trace']}")
    return found
