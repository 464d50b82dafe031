"""Waivers: what a file of them may hold, and what becomes of each in a run."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from arbitor.conformance.judge.waiving import Marks
from arbitor.conformance.tools.commands import located
from arbitor.judge.report.collected import Collected
from arbitor.judge.report.sums import CRASHED, FAILED, PASSED, WAIVED
from arbitor.judge.suite import find_suite
from arbitor.judge.waivers import EXPIRED, PASSES, UNKNOWN, USED, Waiver, load, states

TODAY = datetime.now(UTC).date()
GOOD = {
    "test": '"t.py::test_x"',
    "device": '"cpu"',
    "reason": '"a reason"',
    "link": '"https://example.org/1"',
    "expires": "2999-12-31",
}


def table(**changes: str | None) -> str:
    """A [[waiver]] with some of its fields changed, or taken out."""
    fields = {name: value for name, value in (GOOD | changes).items() if value is not None}
    return "[[waiver]]\n" + "".join(f"{name} = {value}\n" for name, value in fields.items())


def waiver(test: str = "t.py::test_x", device: str = "cpu", days: int = 1) -> Waiver:
    return Waiver(test, device, "a reason", "https://example.org/1", TODAY + timedelta(days))


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "w.toml").write_text(table() + table(device='"cuda"'))
    both = load(tmp_path / "w.toml")
    assert [(w.test, w.device, w.expires) for w in both] == [
        ("t.py::test_x", "cpu", date(2999, 12, 31)),
        ("t.py::test_x", "cuda", date(2999, 12, 31)),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has nothing; a file of waivers has [[waiver]] tables"),
        ("waiver = 3", "has waiver; a file of waivers has"),
        (table() + "[more]\n", "has waiver, more; a file of waivers has"),
        ("[[waiver]", "is no TOML: "),
        *((table(**{name: None}), f"waiver 1: lacks {name}; expected test, device, reason") for name in GOOD),
        (table(note='"x"'), "waiver 1: has note; expected"),
        (table(reason='" "'), "waiver 1: reason is ' ', expected text"),
        (table(test="3"), "waiver 1: test is 3, expected text"),
        (table(device='"tpu"'), "waiver 1: device is 'tpu', expected cpu or cuda"),
        (table(link='"issue 3"'), "waiver 1: link is 'issue 3', expected http:// or https://"),
        (table(expires='"2999-12-31"'), "waiver 1: expires is '2999-12-31', expected a date"),
        (table(expires="2999-12-31T00:00:00"), "waiver 1: expires is datetime.datetime(2999, 12, 31"),
        (table() + table(), "waiver 2: t.py::test_x on cpu is waived twice"),
    ],
)
def test_what_is_no_file_of_waivers(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "w.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"w\.toml: ") as caught:
        load(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_its_last_day_counts() -> None:
    assert not waiver(days=0).expired()
    assert waiver(days=-1).expired()


@pytest.mark.parametrize(
    ("asked", "verdict", "state"),
    [
        (waiver(), WAIVED, USED),
        (waiver(), PASSED, PASSES),
        (waiver(), "", None),  # left out
        (waiver(), "not run", None),
        (waiver(days=-1), FAILED, EXPIRED),
        (waiver(days=-1), "", EXPIRED),
        (waiver("t.py::test_y"), WAIVED, UNKNOWN),
        (waiver("absent.py::test_x"), WAIVED, UNKNOWN),
        (waiver("there.py::test_x"), WAIVED, None),  # of a file that was not asked for
        (waiver("room/t.py::test_x"), WAIVED, USED),  # files move, and a wheel has other folders
        (waiver("room/there.py::test_x"), WAIVED, None),
        (waiver(device="cuda", days=-1), FAILED, None),
    ],
)
def test_what_becomes_of_it(asked: Waiver, verdict: str, state: str | None, tmp_path: Path) -> None:
    for name in ("t.py", "there.py"):
        (tmp_path / name).touch()
    found = states([asked], "cpu", {"t.py::test_x": verdict} if verdict else {}, {"t.py::test_x"}, tmp_path)
    assert [waiver["state"] for waiver in found] == ([state] if state else [])


@pytest.mark.parametrize(("days", "outcome"), [(1, "skipped"), (-1, "failed")])
def test_a_failure_is_waived_until_then(days: int, outcome: str) -> None:
    """Of a case that crashed, too; not of one that passed, and not of another test."""
    marks = Marks({"t.py::test_x": waiver(days=days)})

    def after(nodeid: str, failed: bool) -> Any:
        report: Any = SimpleNamespace(nodeid=nodeid, failed=failed, user_properties=[(CRASHED, True)])
        report.outcome = "failed" if failed else "passed"
        marks.pytest_handlecrashitem(report)
        return report

    report = after("t.py::test_x", True)
    assert report.outcome == outcome
    assert (WAIVED in dict(report.user_properties)) == (days > 0)
    assert after("t.py::test_x", False).outcome == "passed"
    assert after("t.py::test_y", True).outcome == "failed"


@pytest.mark.parametrize(("verdict", "status"), [(WAIVED, 0), (PASSED, 1)])
def test_a_stale_one_fails_a_run_that_passed(verdict: str, status: int, tmp_path: Path) -> None:
    collected = Collected()
    collected.waivers, collected.selected = [waiver()], {"t.py::test_x"}
    collected.tests["t.py::test_x"] = SimpleNamespace(verdict=verdict)  # type: ignore[assignment]
    session: Any = SimpleNamespace(config=SimpleNamespace(rootpath=tmp_path), exitstatus=0)
    collected.pytest_sessionfinish(session)
    assert session.exitstatus == status


def test_plain_pytest_has_them(tmp_path: Path) -> None:
    """In its own process, without a report: a waiver of a test that passes fails the run."""
    suite = find_suite()
    checkout = (suite.parent / "pyproject.toml").is_file()
    settings = suite.parent / "pyproject.toml" if checkout else os.devnull
    test = "test_philox.py::test_agrees"  # in whatever room it is
    (tmp_path / "w.toml").write_text(table(test=f'"{test}"'))
    words = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        str(settings),
        "--rootdir",
        str(suite.parent if checkout else suite),
    ]
    words += ["--import-mode=importlib", "--waivers", str(tmp_path / "w.toml"), "--backend", "reference"]
    command = [sys.executable, "-m", "pytest", *words, located("test_philox.py"), "-k", "test_agrees"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    ended = subprocess.run(
        command, cwd=tmp_path, env=kept, capture_output=True, text=True, timeout=200, check=False
    )
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert f"waiver passes: {test}: a reason (https://example.org/1)" in ended.stdout
    assert "1 passed" in ended.stdout
