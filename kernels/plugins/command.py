"""A backend that is a program in any language, by its command line (`cmd:./program --its-flag`)."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..operations import OPERATIONS, Operation
from . import capabilities, protocol
from .answers import WrongAnswer
from .program import Program

PREFIX = "cmd:"


def words_of(command: str) -> list[str]:
    """The words of a command line, the first an absolute path; raises ValueError with what is wrong."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"{command!r} is no command line: {error}") from None
    if not words:
        raise ValueError("no program is named, expected cmd:PROGRAM")
    name = words[0]
    if "/" not in name:
        found = shutil.which(name)
        if found is None:
            raise ValueError(f"no program {name!r} on the PATH (one in this folder is ./{name})")
        return [found, *words[1:]]
    path = Path(name)
    if not path.exists():
        raise ValueError(f"no such file: {name}")
    if not path.is_file():
        raise ValueError(f"{name} is no file")
    if not os.access(path, os.X_OK):
        raise ValueError(f"{name} is not executable (chmod +x {name})")
    return [str(path.absolute()), *words[1:]]


def module_of(name: str) -> ModuleType:
    """The program of `cmd:COMMAND LINE` as a module that works on NumPy arrays.

    Raises ValueError for a command that cannot be one, and ProgramFailed if it does not say hello.
    """
    program = Program(words_of(name.removeprefix(PREFIX)))
    program.start()
    module = ModuleType(name, doc=f"The program {name}")
    functions = {operation.name: _function(program, operation) for operation in OPERATIONS.values()}
    vars(module).update({"ARRAYS": "numpy", "PROGRAM": program, **functions})
    vars(module)["configuration"] = lambda operation, way: _function(program, OPERATIONS[operation], way)
    if "capabilities" not in program.hello:
        return module
    declared = capabilities.parse(program.hello["capabilities"], f"capabilities of {name}")
    ways = {
        operation: {way: _function(program, OPERATIONS[operation], way) for way in names}
        for operation, names in (declared.configurations or {}).items()
    }
    vars(module).update(CAPABILITIES=program.hello["capabilities"], configurations=lambda device: ways)
    return module


def _function(program: Program, operation: Operation, configuration: str = "") -> Callable[..., Any]:
    """One operation of the program, on NumPy arrays; nothing is written in place before all was checked."""

    def call(*arguments: Any) -> Any:
        values = dict(zip(operation.arguments, arguments, strict=True))
        sent = {n: protocol.encode(v) if isinstance(v, np.ndarray) else v for n, v in values.items()}
        request = {"operation": operation.name, "arguments": sent}
        room = protocol.room_of(operation, values)
        answer = program.ask(request | ({"configuration": configuration} if configuration else {}), room)
        if "error" in answer:
            protocol.raise_refusal(answer["error"])
        expected = [*operation.results, *(array for array in operation.arrays if array.in_place)]
        names = [array.name for array in expected]
        results = answer.get("results")
        if not isinstance(results, dict) or sorted(results) != sorted(names):
            got = ", ".join(results) if isinstance(results, dict) else repr(results)
            raise WrongAnswer(f"{operation.name}: results are {got}, expected {', '.join(names)}")
        extents = protocol.extents_of(operation, values)
        arrays = {a.name: protocol.decode(operation, a, results[a.name], extents) for a in expected}
        for array in operation.arrays:
            if array.in_place:
                values[array.name][...] = arrays[array.name]
        found = tuple(arrays[array.name] for array in operation.results)
        return found if len(found) > 1 else found[0]

    call.__name__ = operation.name
    call.__doc__ = f"`{operation.name}` by the program."
    return call
