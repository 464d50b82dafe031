"""The process that a stranger's module runs in: it imports the module, and calls it with what it is sent.

    python -c "...; main()" NAME MEMORY THREADS      (apart.py starts it)

It reads a request a line and answers a line, as a program does (protocol.py), but for arrays, which lie in
shared memory (wire.py). It holds the arguments of one call and no expected result, and the judge cannot be
imported here.
"""

from __future__ import annotations

import faulthandler
import importlib.abc
import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import torch

from ..operations import OPERATIONS, Operation
from . import sources
from .adapters import ADAPTERS, call_torch
from .answers import plain_arguments
from .memory import results_fault
from .protocol import QUESTIONS, VERSION
from .redzones import Arena, Poisoned
from .wire import Memory, bytes_of, put_back, received, results_in

JUDGES = ("arbitor.reference", "arbitor.conformance")
OPEN = ("arbitor.conformance.cheats",)  # examples of what strangers write
KEPT = 1 << 16  # elements of a result that is looked at again after the next call
SHOWN = 4000  # characters of a traceback, its end
LONGEST = 2000  # characters of a message


class NoJudge(importlib.abc.MetaPathFinder):
    """Refuses to import what judges; the files themselves are out of reach as well (keeper.py).

    What was asked for is remembered: who catches the error has not asked for nothing.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Raises ImportError for a part of the judge."""
        judge = any(name == judge or name.startswith(f"{judge}.") for judge in JUDGES)
        if judge and name != "arbitor.conformance" and not name.startswith(OPEN):
            self.asked.append(name)
            raise ImportError(f"{name} is the judge, and not to be had where a backend is judged")


class Server:
    """One module and its answers."""

    def __init__(self, name: str, memory: Memory, judge: NoJudge) -> None:
        self.memory, self.judge = memory, judge
        self._kept: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        self.module = sources.load_here(name)
        # what is none of the kinds is refused over there, by its name
        self.adapt = ADAPTERS.get(getattr(self.module, "ARRAYS", "torch"), call_torch)
        self._ways: dict[str, Any] = {}

    def hello(self) -> dict[str, Any]:
        """What the module has and says of itself."""
        module = self.module
        said: dict[str, Any] = {
            "protocol": VERSION,
            "module": module.__name__,
            "arrays": str(getattr(module, "ARRAYS", "torch")),
            "operations": [name for name in OPERATIONS if hasattr(module, name)],
            "capabilities": _declared(module),
            "answers": [name for name in QUESTIONS if hasattr(module, name)],
        }
        return said

    def ask(self, question: str, arguments: Sequence[Any]) -> Any:
        """What an optional function of the module says: why_not, why_not_auto, configurations."""
        if question == "configurations":
            self._ways = self.module.configurations(*arguments)
            return {operation: list(ways) for operation, ways in self._ways.items()}
        return getattr(self.module, question)(*arguments)

    def call(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """One operation; results are in the memory, and so are arguments that were written in place."""
        operation = OPERATIONS[request["operation"]]
        self.memory.reserve(request["size"])
        tensors = received(request["tensors"], self.memory, request["device"])
        try:
            results = self._results(operation, request, tensors)
        except BaseException:
            with suppress(RuntimeError):  # of a device that is lost
                put_back(tensors, request["tensors"], self.memory)
            raise
        put_back(tensors, request["tensors"], self.memory)
        return {"results": results_in(results, request["free"], self.memory)}

    def _results(
        self, operation: Operation, request: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
    ) -> Sequence[torch.Tensor]:
        values, device = request["scalars"] | tensors, request["device"]
        function = self._function(operation, request.get("configuration"), device)
        found = self._call(operation, function, values, device, request.get("poison"))
        results = found if isinstance(found, tuple) else (found,)
        asked = self.asked_in(operation.name)
        if asked is not None:
            raise asked
        fault = results_fault(operation, results, [*tensors.values()], device)
        if fault is not None:
            raise AssertionError(fault)
        self._check_kept(operation, results)
        return results

    def asked_in(self, operation: str) -> AssertionError | None:
        """That the judge was asked for since the last time, or None."""
        names = ", ".join(dict.fromkeys(self.judge.asked))
        self.judge.asked.clear()
        return AssertionError(f"{operation} asked for {names}, which judges it") if names else None

    def _check_kept(self, operation: Operation, results: Sequence[torch.Tensor]) -> None:
        """Raises AssertionError if a result of the call before, whose caller may still have it, changed."""
        before = self._kept.get(operation.name, [])
        self._kept[operation.name] = [(r, bytes_of(r).clone()) for r in results if r.numel() <= KEPT]
        for result, copy in before:
            if not torch.equal(bytes_of(result), copy):
                raise AssertionError(f"{operation.name}: a later call wrote to the result of an earlier one")

    def _function(self, operation: Operation, way: str | None, device: str) -> Callable[..., Any]:
        if way is not None:
            if not self._ways:  # of a process that was started again
                self.ask("configurations", [device])
            function: Callable[..., Any] = self._ways[operation.name][way]
            return function
        found: Callable[..., Any] = getattr(self.module, operation.name)  # one that the hello has
        return found

    def _call(
        self,
        operation: Operation,
        function: Callable[..., Any],
        values: Mapping[str, Any],
        device: str,
        pattern: int | None,
    ) -> Any:
        arena = Arena(pattern) if pattern is not None else None
        with Poisoned(arena) if arena is not None else nullcontext():
            found = self.adapt(operation, function, values, device)
        if arena is not None:
            arena.check()
        return found


def _declared(module: ModuleType) -> Any:
    """What it declares, as JSON has it; a file by its path."""
    found = getattr(module, "CAPABILITIES", None)
    if isinstance(found, str | Path):
        return str(Path(module.__file__ or "").resolve().parent / found)
    try:
        return json.loads(json.dumps(found))
    except (TypeError, ValueError):
        return repr(found)


def answer(server: Server, request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to one request; whatever is raised is an error with its class and message."""
    with warnings.catch_warnings(record=True) as warned:
        try:
            if "hello" in request:
                found = server.hello()
            elif "ask" in request:
                found = {"answer": server.ask(request["ask"], request["arguments"])}
            else:
                found = server.call(request)
        except BaseException as error:
            found = {"error": told(server.asked_in(request.get("operation", "")) or error)}
    return found | {"warnings": [f"{w.category.__name__}: {w.message}" for w in warned]}


def told(error: BaseException) -> dict[str, Any]:
    """An exception in words."""
    try:
        trace = "".join(traceback.format_exception(error))[-SHOWN:]
        message = str(error)[:LONGEST]
    except BaseException as second:
        trace, message = "", f"an exception that cannot be shown: {type(second).__name__}"
    name = getattr(error, "name", None)  # of a module that is missing
    arguments = [a[:LONGEST] if isinstance(a, str) else a for a in error.args]
    return {
        "kind": type(error).__name__,
        "message": message,
        "trace": trace,
        "name": name if isinstance(name, str) else None,
        "args": plain_arguments(arguments) if message else [],
    }


def serve(server: Server, requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until there are no more requests."""
    for line in requests:
        request = json.loads(line)
        found = answer(server, request)
        lost = _context_lost()
        more = {"id": request["id"]} | ({"ends": True} if lost else {})
        try:
            text = json.dumps(found | more, allow_nan=False)
        except (TypeError, ValueError) as error:
            text = json.dumps({"error": told(error)} | more)
        answers.write(text.encode() + b"\n")
        answers.flush()
        if lost:
            return


def _context_lost() -> bool:
    if not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def main() -> None:
    """Serve the module that is named on the command line."""
    name, memory, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a module prints is no answer
    judge = NoJudge()
    sys.meta_path.insert(0, judge)
    torch.set_num_threads(threads)
    faulthandler.enable()
    try:
        server = Server(name, Memory(memory), judge)
    except BaseException as error:
        answers.write(json.dumps({"id": 0, "protocol": VERSION, "error": told(error)}).encode() + b"\n")
        answers.flush()
        return
    serve(server, sys.stdin.buffer, answers)
