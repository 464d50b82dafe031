"""What a report of a test is marked with: that its process is gone, or that its failure is waived.

Marks are properties of the report, so they reach whoever started a worker of pytest-xdist.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from arbitor.conformance.judge.target import CaseLost
from arbitor.judge.report.collected import collected_of
from arbitor.judge.report.sums import CRASHED, WAIVED
from arbitor.judge.waivers import Waiver, load, without_folders


def register(config: pytest.Config) -> None:
    """Put the plugin into a run of the suite; raises UsageError for a file of waivers that is none."""
    path: Path | None = config.getoption("--waivers")
    try:
        waivers = load(path) if path is not None else []
    except ValueError as error:
        raise pytest.UsageError(f"--waivers {error}") from None
    collected = collected_of(config)
    if collected is not None:
        collected.waivers = waivers
    device = config.getoption("--device")
    config.pluginmanager.register(Marks({w.key: w for w in waivers if w.device == device}))


class Marks:
    """The plugin; `waivers` are those of the device, by test."""

    def __init__(self, waivers: dict[str, Waiver]) -> None:
        self.waivers = waivers

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if call.excinfo is not None and isinstance(call.excinfo.value, CaseLost):
            report.user_properties = [*report.user_properties, (CRASHED, True)]
        self.waive(report)
        return report

    @pytest.hookimpl(optionalhook=True, trylast=True)
    def pytest_handlecrashitem(self, report: Any) -> None:
        self.waive(report)

    def waive(self, report: pytest.TestReport) -> None:
        """A failure with a waiver does not count: to pytest it was expected."""
        waiver = self.waivers.get(without_folders(report.nodeid))
        if waiver is not None and report.failed and not waiver.expired():
            report.outcome = "skipped"
            report.wasxfail = f"waived: {waiver}"
            report.user_properties = [*report.user_properties, (WAIVED, str(waiver))]

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: Any) -> tuple[str, str, str] | None:
        marks = {name for name, _ in getattr(report, "user_properties", ())}
        if WAIVED in marks:
            return "waived", "w", "WAIVED"
        if CRASHED in marks and report.failed:
            return "failed", "C", "CRASHED"
        return None
