"""A pytest plugin that knows what became of every test that was selected, also under pytest-xdist.

`arbitor verify` makes the record of a run from it; plain pytest has one for its last lines and its waivers. A
test has one verdict, the worst that any of its phases had.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from arbitor.judge.blame import Ran, blamed, clauses_of
from arbitor.judge.suite import find_suite
from arbitor.judge.waivers import STALE, Waiver, states

from .sums import CRASHED, FAILED, FINISHED, INTERRUPTED, NOT_RUN, PASSED, VERDICTS, WAIVED, reasons_of

ARTIFACT = "artifact"  # property of a test's report: the path of what repeats its failure
LONGEST = 6000  # characters of a message
LISTED = 6  # clauses of failed tests, on the terminal
LISTED_ERRORS, WIDTH = 3, 120  # exceptions of failed tests there, and their characters
BLAME = "clauses of the failed tests, an estimate, the likeliest cause first (the failed tests say more):"


@dataclass
class Judged:
    """One test: the worst verdict so far, "" before the first; seconds; why it did not run; messages."""

    clauses: Sequence[str] = ()
    verdict: str = ""
    seconds: float = 0.0
    reason: str = ""
    messages: list[str] = field(default_factory=list)
    artifact: str = ""

    def add(self, verdict: str) -> None:
        if not self.verdict or VERDICTS.index(verdict) > VERDICTS.index(self.verdict):
            self.verdict = verdict

    def entry(self, test: str, without: str) -> dict[str, Any]:
        """As a record has it; `without` is why one without a verdict has none."""
        found: dict[str, Any] = {
            "test": shown(test),
            "verdict": self.verdict or NOT_RUN,
            "seconds": round(self.seconds, 4),
            "clauses": list(self.clauses),
        }
        if found["verdict"] == NOT_RUN:
            found["reason"] = shown(self.reason if self.verdict else without)
        elif self.verdict != PASSED:
            found["message"] = shortened(shown("\n\n".join(self.messages)))
        return found | ({"artifact": self.artifact} if self.artifact else {})


class Collected:
    """The plugin. `waivers` are for `device`."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.waivers: Sequence[Waiver] = ()
        self.known: Mapping[str, Sequence[str]] = {}  # clauses of all tests that were collected
        self.selected: set[str] = set()
        self.tests: dict[str, Judged] = {}
        self.totals: Counter[str] = Counter()
        self.domains: set[str] = set()
        self.raised: Counter[str] = Counter()  # what failed tests ended with that is no comparison
        self.ended = ""  # why the run did
        self.why = INTERRUPTED  # of tests that did not run because of that
        self.states: list[dict[str, str]] = []
        self.workers = 1
        self.examples = "quick"
        self.left_out: Mapping[str, str] = {}  # variables of the environment that the run had not
        self._started: dict[str, float] = {}

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self.examples = str(session.config.getoption("--examples", "quick"))
        self.workers = max(1, len(session.config.getoption("tx", None) or ()))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.selected.update(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: Sequence[str]) -> None:
        self.selected.update(ids)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that could not be collected, or was skipped as a whole, counts as one test."""
        if not report.passed:
            self.selected.add(report.nodeid)
            self._judge(report)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._started[nodeid] = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of one test."""
        self._judge(report)
        test = self.tests[report.nodeid]
        test.clauses = clauses_of(report) or test.clauses
        test.seconds += report.duration
        properties = dict(report.user_properties)
        if CRASHED in properties and not report.duration:  # its process is gone, so this one has the time
            test.seconds += time.monotonic() - self._started.get(report.nodeid, time.monotonic())
        test.artifact = str(properties.get(ARTIFACT, test.artifact))
        if report.when == "call":  # all phases have the properties
            self._count(report.user_properties)

    def _judge(self, report: pytest.CollectReport | pytest.TestReport) -> None:
        test = self.tests.setdefault(report.nodeid, Judged())
        properties = dict(getattr(report, "user_properties", ()))
        if WAIVED in properties:
            test.add(WAIVED)
            test.messages.append(f"waived: {properties[WAIVED]}\n{report.longreprtext}")
        elif report.failed:
            test.add(CRASHED if CRASHED in properties else FAILED)
            test.messages.append(report.longreprtext)
            self.raised.update(raised_in(report))
        elif report.skipped:
            test.add(NOT_RUN)
            expected = getattr(report, "wasxfail", None)
            test.reason = reason_of(report) if expected is None else f"expected to fail: {expected}"
        elif isinstance(report, pytest.TestReport) and report.when == "call":
            test.add(PASSED)

    def _count(self, properties: Sequence[tuple[str, Any]]) -> None:
        for name, value in properties:
            if name == "total":
                self.totals[str(value[0])] += int(value[1])
            elif name == "domain":
                self.domains.add(str(value))

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        said = str(excinfo.value)
        if isinstance(excinfo.value, KeyboardInterrupt):  # xdist's of -x and --maxfail are some too
            self.ended, self.why = INTERRUPTED, said or INTERRUPTED
        else:
            self.ended, self.why = f"lost: {said}", said

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        self.why = f"an internal error of pytest: {excinfo.exconly()}"
        self.ended = f"lost: {self.why}"

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """A stale waiver fails a run that passed."""
        if not self.ended and any(not self._verdict(test) for test in self.selected):
            self.ended, self.why = INTERRUPTED, str(session.shouldfail or session.shouldstop or INTERRUPTED)
        self.ended = self.ended or FINISHED
        verdicts = {test: self._verdict(test) for test in self.selected}
        self.states = states(self.waivers, self.device, verdicts, self.known, find_suite())
        if session.exitstatus == pytest.ExitCode.OK and self.stale:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _verdict(self, test: str) -> str:
        return self.tests[test].verdict if test in self.tests else ""

    @property
    def stale(self) -> list[dict[str, str]]:
        """Waivers that must go."""
        return [waiver for waiver in self.states if waiver["state"] in STALE]

    def entries(self) -> list[dict[str, Any]]:
        """Every test that was selected, as a record has it, sorted by its id."""
        found = {test: self.tests.get(test) or Judged() for test in {*self.selected, *self.tests}}
        for test, judged in found.items():
            judged.clauses = judged.clauses or self.known.get(test, ())
        return sorted((j.entry(test, self.why) for test, j in found.items()), key=lambda entry: entry["test"])

    def clauses(self) -> dict[str, dict[str, int]]:
        """The clauses that failed and crashed tests point at (blame.py); waived ones say nothing new."""
        wrong = (FAILED, CRASHED)
        return blamed(
            Ran(test, judged.clauses, judged.verdict in wrong)
            for test, judged in self.tests.items()
            if judged.verdict in (*wrong, PASSED)
        )

    def lines(self) -> list[str]:
        """For the terminal: what was walked and counted, exceptions that tests failed with, the clauses that
        failures point at, why tests did not run, how many processes were lost, and waivers with their states.
        """
        found = [f"domain {size}" for size in sorted(self.domains)]
        found += [f"total of {what}: {number:,}" for what, number in sorted(self.totals.items())]
        found += [f"raised: {error}: {number}" for error, number in self.raised.most_common(LISTED_ERRORS)]
        found += self._blame()
        done = (judged.entry(test, self.why) for test, judged in self.tests.items() if judged.verdict)
        found += [f"not run: {reason}: {number}" for reason, number in reasons_of(done).items()]
        crashed = sum(test.verdict == CRASHED for test in self.tests.values())
        found += [f"crashed: {crashed}"] if crashed else []
        return found + [f"waiver {w['state']}: {w['test']}: {w['reason']} ({w['link']})" for w in self.states]

    def _blame(self) -> list[str]:
        blame = self.clauses()
        if not blame:
            return []
        more = [f"  and {len(blame) - LISTED} more"] if len(blame) > LISTED else []
        return [
            BLAME,
            *(f"  {c}: {n['failed']} of {n['ran']} cases failed" for c, n in list(blame.items())[:LISTED]),
            *more,
        ]


def collected_of(config: pytest.Config) -> Collected | None:
    """The plugin of a run; a worker process has none."""
    return next((p for p in config.pluginmanager.get_plugins() if isinstance(p, Collected)), None)


def raised_in(report: pytest.CollectReport | pytest.TestReport) -> list[str]:
    """The exception that a failed test ended with, if it is one of the code under test: a comparison that
    fails is an AssertionError. One mistake that fails a hundred tests then is one line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    first = str(getattr(crash, "message", "")).partition("\n")[0]
    name = first.partition(":")[0].rpartition(".")[2]
    if not name.endswith(("Error", "Exception")) or name == AssertionError.__name__:
        return []
    return [shown(first if len(first) <= WIDTH else f"{first[:WIDTH]}...")]


def reason_of(report: pytest.CollectReport | pytest.TestReport) -> str:
    """Why a test was skipped."""
    where = report.longrepr
    return str(where[2]).removeprefix("Skipped: ") if isinstance(where, tuple) else str(where)


def shown(text: str) -> str:
    """Text that can be written as UTF-8: a lone surrogate as its escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def shortened(text: str) -> str:
    """The beginning and the end of a long text."""
    if len(text) <= LONGEST:
        return text
    head, tail = text[: LONGEST * 2 // 3], text[-LONGEST // 3 :]
    return f"{head}\n[... {len(text) - len(head) - len(tail)} characters ...]\n{tail}"
