"""What is under test, and who judges it: the only file of the suite that knows.

The expected results come from `reference`. The reference itself is judged by the oracle, because a check that
cannot fail is a defect. Both run through the registry, so a stranger's module is tested exactly as ours is.
Every call gets tensors of its own: neither side sees what the other wrote. guard.py says what a backend may
not do while it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import torch

from arbitor.conformance.judge.cases import FailedCall, FailedRefusal, carry, way_of
from arbitor.conformance.judge.compare import assert_same, difference
from arbitor.conformance.judge.counting import REFUSALS, count
from arbitor.conformance.judge.guard import given, hold, is_other, taken, watch
from arbitor.conformance.judge.repro import reproduction
from arbitor.kernels.operations import OPERATIONS
from arbitor.kernels.plugins.program import ProgramFailed
from arbitor.kernels.registry import Backend, select

REFERENCE = "reference"
ORACLE = "arbitor.conformance.oracle"

Arguments = dict[str, Any]
Arrays = dict[str, torch.Tensor]
Layout = Callable[[str, torch.Tensor], torch.Tensor]


def own(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """The layout of every other argument: a contiguous tensor of the call's own."""
    return tensor.clone(memory_format=torch.contiguous_format)


class CaseLost(BaseException):
    """A backend that died, hung or answered garbage: the end of this test, and of no other.

    No Exception, so that Hypothesis does not try a hundred smaller calls, each of which may hang as long, and
    so that it is never taken for the refusal of an illegal call.
    """


@dataclass(frozen=True)
class Outcome:
    """What both sides gave, results and arguments written in place, by name; inputs that were changed; the
    arguments as the target got them, and as they were before."""

    expected: Arrays
    actual: Arrays
    disturbed: tuple[str, ...]
    placed: Arguments
    arguments: Arguments


def judge_of(backend_name: str) -> Backend:
    """The backend that says what is right: the reference, or the oracle for the reference itself."""
    reference = select(REFERENCE)
    return select(ORACLE) if select(backend_name).module is reference.module else reference


def target_of(backend_name: str, device: str = "cpu") -> Target:
    """The backend of that name or module path as a target, with its judge."""
    return Target(select(backend_name), judge_of(backend_name), device)


def call(backend: Backend, operation: str, arguments: Arguments, device: str = "cpu") -> Arrays:
    """One call: results by their names in the table of operations, and arguments written in place."""
    table = OPERATIONS[operation]
    try:
        found = getattr(backend, operation)(**arguments, **({} if table.arrays else {"device": device}))
    except ProgramFailed as error:
        how = reproduction(operation, arguments, backend.name)
        lost = CaseLost(f"{backend.name}: {error}\nto repeat it:\n{how}")
        carry(lost, FailedCall(operation, arguments, backend.name, device))
        raise lost from None
    results = found if isinstance(found, tuple) else (found,)
    named = {array.name: result for array, result in zip(table.results, results, strict=True)}
    return named | {array.name: arguments[array.name] for array in table.arrays if array.in_place}


def substituted(target: Target, operation: str, function: Callable[..., Any]) -> Target:
    """The target with one operation of its module replaced."""
    module = ModuleType(target.backend.module.__name__)
    for name in OPERATIONS:
        if hasattr(target.backend.module, name):
            setattr(module, name, getattr(target.backend.module, name))
    setattr(module, operation, function)
    vars(module)["ARRAYS"] = target.backend.arrays
    backend = Backend(target.backend.name, module, target.backend.capabilities)
    return Target(backend, target.judge, target.device)


class Target:
    """A backend under test beside its judge. Its arrays are on `device`; the judge is on the CPU."""

    def __init__(self, backend: Backend, judge: Backend, device: str = "cpu") -> None:
        self.backend = watch(backend)
        self.judge = judge
        self.device = device

    def placed(self, arguments: Arguments, layout: Layout = own) -> Arguments:
        """The arguments with tensors of their own on the target's device, in that memory layout."""
        return {
            name: layout(name, value.to(self.device)) if isinstance(value, torch.Tensor) else value
            for name, value in arguments.items()
        }

    def needs(self, operation: str) -> None:
        """Skip the test, with the reason, unless the backend declares that operation."""
        reason = self.backend.lacks(operation)
        if reason is not None:
            pytest.skip(reason)

    def run_both(self, operation: str, arguments: Arguments, layout: Layout = own) -> Outcome:
        """The same call on both sides; only the target gets the unusual layout.

        The judge comes last, so that no expected result exists while the backend runs (guard.py).
        """
        self.needs(operation)
        held = hold(arguments)
        mine = self.placed(arguments, layout)
        try:
            actual = taken(call(self.backend, operation, mine, self.device))
        except (Exception, CaseLost) as error:
            expected: Arrays = {}
            with suppress(Exception):  # the judge may refuse it too
                expected = call(self.judge, operation, given(held))
            carry(error, self.case(operation, given(held), way_of(mine), expected))
            raise
        judged = given(held)
        expected = call(self.judge, operation, judged)
        arrays = OPERATIONS[operation].arrays
        disturbed = tuple(a.name for a in arrays if not a.in_place and is_other(held[a.name], mine[a.name]))
        before = judged | given({a.name: held[a.name] for a in arrays if a.in_place})
        return Outcome(expected, actual, disturbed, mine, before)

    def case(
        self,
        operation: str,
        arguments: Arguments,
        way: dict[str, Any],
        expected: Arrays,
        actual: Arrays | None = None,
    ) -> FailedCall:
        """What a failure of that call carries (cases.py)."""
        return FailedCall(operation, arguments, self.backend.name, self.device, expected, actual or {}, way)

    def check(self, operation: str, arguments: Arguments, layout: Layout = own) -> Arrays:
        """Raises AssertionError unless both give the same bytes and inputs stay; gives the results."""
        outcome = self.run_both(operation, arguments, layout)
        arguments = outcome.arguments
        try:
            assert_same(operation, arguments, outcome.expected, outcome.actual, self.backend.name)
            if outcome.disturbed:
                raise AssertionError(f"{operation} changed its input {', '.join(outcome.disturbed)}")
        except AssertionError as error:
            way = way_of(outcome.placed)
            carry(error, self.case(operation, arguments, way, outcome.expected, outcome.actual))
            raise
        return {name: array.cpu() for name, array in outcome.actual.items()}

    def aid(self, operation: str, arguments: Arguments) -> Arrays:
        """Results of an operation that a test of another one needs: checked where the backend declares it,
        else the judge's, so that a gap elsewhere skips no test of what is declared."""
        if self.backend.lacks(operation) is None:
            return self.check(operation, arguments)
        return call(self.judge, operation, arguments)

    def refuses(
        self, operation: str, arguments: Arguments, error: type[Exception], *names: str | int
    ) -> None:
        """Raises unless `error` refuses the call, its message has all `names`, and nothing has changed."""
        self.needs(operation)
        mine = self.placed(arguments, layout=lambda name, tensor: tensor)
        before = self.placed(arguments)
        try:
            self._refuses(operation, mine, error, names)
            for name, value in before.items():
                if isinstance(value, torch.Tensor) and difference(name, value, mine[name]):
                    raise AssertionError(f"{operation} was refused but changed {name}")
        except (Exception, CaseLost) as failure:
            case = FailedRefusal(operation, before, error.__name__, names, self.backend.name, self.device)
            carry(failure, case)
            raise

    def _refuses(
        self, operation: str, arguments: Arguments, error: type[Exception], names: tuple[str | int, ...]
    ) -> None:
        wanted = f"{error.__name__} that names {' and '.join(map(str, names))}" if names else error.__name__
        try:
            call(self.backend, operation, arguments, self.device)
        except error as caught:
            missing = [name for name in names if str(name) not in str(caught)]
            if missing:
                raise AssertionError(
                    f"{operation}: the error should name {missing}, but says: {caught}"
                ) from None
            count(REFUSALS)
        else:
            raise AssertionError(f"{operation} answered an illegal call, expected a {wanted}")
