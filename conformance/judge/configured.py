"""Failures of one of a backend's configurations, as cases that can be repeated in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from arbitor.conformance.judge.cases import CONFIGURATION, FailedCall, carry, case_of
from arbitor.conformance.judge.compare import assert_same
from arbitor.conformance.judge.target import Arguments, Arrays, CaseLost, Target, call


def say_where(target: Target, operation: str, arguments: Arguments, right: Arrays) -> None:
    """Call again; raises AssertionError with the first element that differs."""
    actual = call(target.backend, operation, target.placed(arguments), target.device)
    try:
        assert_same(operation, arguments, right, actual, target.backend.name)
    except AssertionError as error:
        carry(error, target.case(operation, arguments, {}, right, actual))
        raise


@contextmanager
def in_configuration(name: str) -> Iterator[None]:
    """What fails in there is a case of that configuration."""
    try:
        yield
    except (Exception, CaseLost) as error:
        case = case_of(error)
        if isinstance(case, FailedCall):
            carry(error, replace(case, way={**case.way, CONFIGURATION: name}))
        error.add_note(f"in the configuration {name!r}")
        raise
