"""A pytest plugin: a failed test whose error carries a case leaves it as a file for `arbitor replay`.

One file a failed test, of the failure that is reported: with Hypothesis, the shrunk one. It is written where
the test ran, which under pytest-xdist is a worker; its path goes with the report, as the property "artifact".
"""

from __future__ import annotations

import shlex
from collections.abc import Generator
from pathlib import Path

import pytest

from arbitor.conformance.judge.archive import Failure, write
from arbitor.conformance.judge.cases import Case, FailedCall, case_of
from arbitor.conformance.judge.repro import reproduction
from arbitor.judge.report.collected import ARTIFACT

FOLDER = Path("reports")


class Artifacts:
    """Writes artifacts below reports/ in the current folder."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """After the report of one phase of one test."""
        report = yield
        case = case_of(call.excinfo.value) if report.failed and call.excinfo is not None else None
        if case is None or call.excinfo is None:
            return report
        clauses = sorted({str(name) for mark in item.iter_markers("clause") for name in mark.args})
        try:
            path = write(case, failure_of(case, call.excinfo.value, item.nodeid, clauses), FOLDER)
        except (OSError, ValueError) as error:
            _say(report, f"there is no artifact: {error}")
            return report
        report.user_properties.append((ARTIFACT, path.as_posix()))
        _say(report, how_to_replay(path, case))
        return report


def failure_of(case: Case, error: BaseException, test: str = "", clauses: list[str] | None = None) -> Failure:
    """Where the case comes from, for its artifact."""
    how = (
        reproduction(case.operation, dict(case.arguments), case.backend)
        if isinstance(case, FailedCall)
        else ""
    )
    return Failure(test, clauses or [], message_of(error), how)


def message_of(error: BaseException) -> str:
    """What the error says; of a group, what each of its errors says."""
    if isinstance(error, BaseExceptionGroup):
        return "\n".join([str(error), *map(message_of, error.exceptions)])
    name = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
    return f"{name}{error}"


def how_to_replay(path: Path, case: Case) -> str:
    """The command that repeats the case of an artifact."""
    device = "" if case.device == "cpu" else f" --device {case.device}"
    command = f"arbitor replay {shlex.quote(path.as_posix())} --backend {shlex.quote(case.backend)}{device}"
    return f"to replay it: {command}"


def _say(report: pytest.TestReport, line: str) -> None:
    """Add a line to the text of a failure."""
    add = getattr(report.longrepr, "addsection", None)
    if add is not None:
        add("artifact", line)
    else:
        report.sections.append(("artifact", line))
