"""Whether what judges is still what it was: a snapshot of it before the backend's module is imported is
compared after that and after every test.

It holds the functions and classes of the comparator, the target, the arena, the guard, the judges and the
registry, and what they lean on in builtins, torch, NumPy, hashlib and pytest. What was exchanged is named and
put back, so that the tests which follow are judged. A function that the backend itself exchanges and puts
back within one test is not seen (docs/cheats.md).
"""

from __future__ import annotations

import builtins
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from operator import attrgetter, is_, itemgetter
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from _pytest import python, runner

from arbitor.conformance.judge import arena, compare, declared, guard, target
from arbitor.conformance.judge.guard import JUDGES, fence_judges, modules_of, watch
from arbitor.conformance.judge.target import Target
from arbitor.kernels import checks, registry
from arbitor.kernels.operations import OPERATIONS
from arbitor.kernels.plugins import adapters, answers

OURS = (compare, target, arena, guard, declared, registry, adapters, answers, checks)
TENSOR = (
    "__eq__ __ne__ all any clone contiguous copy_ cpu detach eq equal item ne nonzero numpy reshape to "
    "tolist untyped_storage view"
)
NAMES: tuple[tuple[Any, str, str], ...] = (  # owner, its name, what is watched there
    (
        builtins,
        "builtins",
        "all any getattr hasattr isinstance iter len map next range repr setattr sorted str tuple type zip",
    ),
    (hashlib, "hashlib", "new sha256"),
    (np, "numpy", "all any argwhere array_equal array_equiv nonzero not_equal"),
    (np.testing, "numpy.testing", "assert_array_equal assert_equal"),
    (torch, "torch", "all any equal eq frombuffer from_numpy ne"),
    (torch.Tensor, "torch.Tensor", TENSOR),
    (pytest, "pytest", "exit fail raises skip"),
    (runner, "_pytest.runner", "CallInfo call_and_report pytest_runtest_call pytest_runtest_makereport"),
    (runner.CallInfo, "_pytest.runner.CallInfo", "from_call"),
    (python, "_pytest.python", "pytest_pyfunc_call"),
)
_is, _all = is_, all


class Snapshot:
    """What there was when it was taken, by owner and name."""

    def __init__(self, others: Iterable[ModuleType] = ()) -> None:
        self.names: list[tuple[Any, str, str]] = []  # owner, what it is called, name
        self.objects: list[object] = []
        self.looks: list[Callable[[], tuple[object, ...]]] = []  # what is there now, some names at a time
        self.functions: list[FunctionType] = []
        self.codes: list[CodeType] = []
        for owner, where, names in _watched(others):
            self.add(owner, where, names)

    def add(self, owner: Any, where: str, names: Iterable[str]) -> None:
        """Take names of an owner as well, as they are now; `where` is what it is called."""
        own = [name for name in names if name in vars(owner)]
        bases = [name for name in names if name not in own]  # what torch.Tensor has of its base
        for getter, source, found in ((itemgetter, vars(owner), own), (attrgetter, owner, bases)):
            if not found:
                continue
            names = [*found, found[0]]  # of two names and more a getter gives a tuple
            look = partial(getter(*names), source)
            self.looks.append(look)
            self.names += [(owner, where, name) for name in names]
            self.objects += look()
            functions = [value for value in look()[:-1] if isinstance(value, FunctionType)]
            self.functions += functions
            self.codes += [function.__code__ for function in functions]

    def changed(self) -> list[str]:
        """Names of what was exchanged since; it is put back."""
        try:
            now = [*chain.from_iterable([look() for look in self.looks])]
        except (KeyError, AttributeError):  # something was deleted
            now = []
        codes = [function.__code__ for function in self.functions]
        if _same(now, self.objects) and _same(codes, self.codes):
            return []
        return [*self._restored_codes(), *self._restored_objects()]

    def _restored_codes(self) -> Iterator[str]:
        for function, code in zip(self.functions, self.codes, strict=True):
            if function.__code__ is not code:
                function.__code__ = code
                yield f"the code of {function.__module__}.{function.__qualname__}"

    def _restored_objects(self) -> Iterator[str]:
        for (owner, where, name), before in zip(self.names, self.objects, strict=True):
            if name in vars(owner) and vars(owner)[name] is before:
                continue
            if name in vars(owner) or getattr(owner, name, None) is not before:
                setattr(owner, name, before)
                yield f"{where}.{name}"


def _same(now: Sequence[object], before: Sequence[object]) -> bool:
    """By identity: what is exchanged may be equal to everything."""
    return len(now) == len(before) and _all(map(_is, now, before))


def _watched(others: Iterable[ModuleType]) -> Iterator[tuple[Any, str, list[str]]]:
    """Owners, what they are called, and names of everything that is watched, but for the target."""
    for owner, where, names in NAMES:
        yield owner, where, names.split()
    for module in (*OURS, *others, *chain.from_iterable(map(modules_of, JUDGES))):
        kinds = FunctionType | BuiltinFunctionType | type | ModuleType
        yield module, module.__name__, [n for n, value in vars(module).items() if isinstance(value, kinds)]
        for name, value in list(vars(module).items()):
            if isinstance(value, type) and value.__module__ == module.__name__:
                methods = [n for n, v in vars(value).items() if isinstance(v, FunctionType | property)]
                yield value, f"{module.__name__}.{name}", methods


class Identity:
    """A pytest plugin: fences the judges, takes the snapshot, fails the test after which it is not true."""

    def __init__(self, *others: ModuleType) -> None:
        """`others` are modules of the suite that are watched besides."""
        fence_judges()
        self.snapshot = Snapshot(others)

    def take(self, tested: Target) -> None:
        """Watch the target too: its judge, and the operations of both.

        Raises UsageError if the backend's module, when it was imported, exchanged something.
        """
        found = self.snapshot.changed()
        if found:
            words = f"its module exchanged {', '.join(found)} when it was imported"
            raise pytest.UsageError(f"--backend {tested.backend.name}: {words}")
        self.snapshot.add(tested, "target", ("backend", "judge", "device"))
        for what, backend in (("backend", tested.backend), ("judge", tested.judge)):
            watch(backend)  # now, and not when a test makes a target of the judge
            self.snapshot.add(backend, f"target.{what}", ("module", *OPERATIONS))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self) -> Iterator[None]:
        """After all fixtures of the test, so that what a test exchanges itself is back in its place."""
        yield
        found = self.snapshot.changed()
        if found:
            pytest.fail(f"exchanged during the test, and not put back: {', '.join(found)}", pytrace=False)
