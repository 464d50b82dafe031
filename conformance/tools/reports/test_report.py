"""The record of a run: every test once, with its worst verdict; whatever is not a whole one is rejected."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from arbitor.checkpoint import SPECIFICATION
from arbitor.cli import main
from arbitor.judge.blame import CLAUSES
from arbitor.judge.interrupts import STATUS
from arbitor.judge.report.check import verdict
from arbitor.judge.report.collected import LONGEST, Collected, shortened
from arbitor.judge.report.record import record_of
from arbitor.judge.seal import FOOTER, digest_above, sealed
from arbitor.judge.suite import find_suite
from arbitor.judge.verify import NOTHING, _status
from arbitor.kernels.registry import select

Record = dict[str, Any]


def report(
    test: str, outcome: str, when: str = "call", text: str = "", **properties: Any
) -> pytest.TestReport:
    """A phase of a test as pytest reports it."""
    found: list[tuple[str, object]] = [(CLAUSES, ["ARB-PACK-001"]), *properties.items()]
    where: Any = ("file", 1, f"Skipped: {text}") if outcome == "skipped" else text
    kind: Any = outcome
    moment: Any = when
    return pytest.TestReport(
        test, ("t.py", 1, test), {}, kind, where, moment, user_properties=found, duration=0.5
    )


def collected() -> Collected:
    """Of a run with every verdict; one test was never begun."""
    found = Collected()
    found.selected = {f"t.py::test_{name}" for name in ("a", "b", "c", "d", "e", "f", "never")}
    found.known = {"t.py::test_never": ["ARB-FIRE-001"]}
    for phase in (
        report("t.py::test_a", "passed", "setup"),
        report("t.py::test_a", "passed", total=["elements", 3], domain="bytes size 256"),
        report("t.py::test_a", "passed", "teardown", total=["elements", 3]),
        report("t.py::test_b", "failed", text="3 is not 4", artifact="reports/b.arb"),
        report("t.py::test_b", "failed", "teardown", text="and this"),
        report("t.py::test_c", "passed"),
        report("t.py::test_c", "failed", "teardown", text="late \ud800"),
        report("t.py::test_d", "skipped", "setup", text="no GPU"),
        report("t.py::test_e", "failed", text="died of SIGSEGV", crashed=True),
        report("t.py::test_e", "failed", "teardown", text="of the teardown"),
        report("t.py::test_f", "failed", text="known", waived="issue 1"),
    ):
        found.pytest_runtest_logreport(phase)
    return found


def finished(found: Collected, status: int = 1) -> Record:
    """The record of a run, through JSON as a file would be."""
    session: Any = SimpleNamespace(config=SimpleNamespace(rootpath=Path()), exitstatus=status)
    session.shouldfail, session.shouldstop = "stopping after 3 failures", False
    found.pytest_sessionfinish(session)
    times = datetime(2026, 11, 26, tzinfo=UTC), 1.25
    record = record_of(found, select("torch"), ["-x"], find_suite(), times, status)
    copied: Record = json.loads(json.dumps(record))
    return copied


@pytest.fixture(scope="module")
def record() -> Record:
    """A record of a whole run."""
    found = collected()
    found.selected.remove("t.py::test_never")
    return finished(found)


def refooted(record: Record) -> Record:
    """With the digest made anew, as somebody does who edits on purpose."""
    record[FOOTER]["sha256"] = digest_above(record)
    return record


def test_every_test_once_with_its_worst_verdict() -> None:
    found = finished(collected())
    tests = {entry["test"].removeprefix("t.py::test_"): entry for entry in found["tests"]}
    assert {name: entry["verdict"] for name, entry in tests.items()} == {
        "a": "passed",
        "b": "failed",
        "c": "failed",
        "d": "not run",
        "e": "crashed",
        "f": "waived",
        "never": "not run",
    }
    assert found["counts"] == {"passed": 1, "failed": 2, "crashed": 1, "not_run": 2, "waived": 1}
    assert found["not_run"] == {"no GPU": 1, "stopping after 3 failures": 1}
    assert tests["b"]["message"] == "3 is not 4\n\nand this"
    assert tests["b"]["artifact"] == "reports/b.arb"
    assert tests["c"]["message"] == "late \\ud800"
    assert tests["f"]["message"] == "waived: issue 1\nknown"
    assert tests["a"] == {
        "test": "t.py::test_a",
        "verdict": "passed",
        "seconds": 1.5,
        "clauses": ["ARB-PACK-001"],
    }
    assert tests["never"]["clauses"] == ["ARB-FIRE-001"]
    assert found["clauses"] == {"ARB-PACK-001": {"failed": 3, "ran": 4}}
    assert (found["totals"], found["domains"]) == ({"elements": 3}, ["bytes size 256"])
    assert (found["run"]["complete"], found["run"]["ended"]) == (False, "interrupted")


def test_a_file_that_cannot_be_collected_is_a_test_that_failed() -> None:
    found = Collected()
    for name, outcome, text in (
        ("a.py", "failed", "no module"),
        ("b.py", "skipped", ("f", 1, "Skipped: no GPU")),
    ):
        found.pytest_collectreport(pytest.CollectReport(name, outcome, text, []))  # type: ignore[arg-type]
    assert found.selected == {"a.py", "b.py"}
    made = finished(found)
    assert [(entry["test"], entry["verdict"]) for entry in made["tests"]] == [
        ("a.py", "failed"),
        ("b.py", "not run"),
    ]
    assert made["run"]["complete"] is True


@pytest.mark.parametrize(
    ("error", "ended", "reason"),
    [
        (KeyboardInterrupt(), "interrupted", "interrupted"),
        (KeyboardInterrupt("stopping after 1 failures"), "interrupted", "stopping after 1 failures"),
        (pytest.exit.Exception("3 workers in a row"), "lost: 3 workers in a row", "3 workers in a row"),
    ],
)
def test_how_a_run_ended(error: BaseException, ended: str, reason: str) -> None:
    found = collected()
    found.pytest_keyboard_interrupt(SimpleNamespace(value=error))  # type: ignore[arg-type]
    made = finished(found)
    assert made["run"]["ended"] == ended
    assert made["run"]["complete"] is False
    assert made["not_run"] == {"no GPU": 1, reason: 1}


def test_a_record_that_leaves_the_schema_is_never_written() -> None:
    found = collected()
    found.examples = ""
    with pytest.raises(ValueError, match=r"the record of this run leaves the schema at \$\.run\.examples"):
        finished(found)


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("TypeError: no such cast\nmore of it", "raised: TypeError: no such cast: 2"),
        ("torch.AcceleratorError: CUDA error", "raised: torch.AcceleratorError: CUDA error: 2"),
        ("KeyError: " + "x" * 200, f"raised: KeyError: {'x' * 110}...: 2"),
        ("AssertionError: codes differs in 1 element", None),
        ("assert 1 == 2", None),
        ("Failed: DID NOT RAISE <class 'ValueError'>", None),
    ],
)
def test_exceptions_of_failed_tests_are_counted(message: str, line: str | None) -> None:
    """One mistake that fails a hundred tests is one line; what a comparison says is not."""
    found = Collected()
    crash = SimpleNamespace(reprcrash=SimpleNamespace(message=message))
    for name in ("a", "b"):
        report: Any = SimpleNamespace(
            nodeid=name, longrepr=crash, longreprtext="", failed=True, user_properties=()
        )
        found._judge(report)
    assert [shown for shown in found.lines() if shown.startswith("raised")] == ([line] if line else [])


def test_a_long_message_keeps_both_ends() -> None:
    text = "a" * LONGEST + "z" * LONGEST
    short = shortened(text)
    assert len(short) < LONGEST + 100
    assert short.startswith("aaa")
    assert short.endswith("zzz")
    assert f"[... {LONGEST} characters ...]" in short
    assert shortened("a" * LONGEST) == "a" * LONGEST


def test_a_whole_one_is_accepted(record: Record) -> None:
    said = "torch on cpu: 1 passed, 2 failed, 1 crashed, 1 not run, 1 waived; exit status 1"
    assert verdict(json.dumps(record).encode()) == said
    assert verdict(json.dumps(record, indent=1).encode()) == said
    partial = verdict(json.dumps(finished(collected())).encode())
    assert partial == f"partial: interrupted, 5 of 7 tests ran; {said.replace('1 not run', '2 not run')}"
    record["machine"].pop("specification")  # from before reports said so
    record[FOOTER]["sha256"] = digest_above(record)
    old = f"{said}; judged by specification 1, not {SPECIFICATION}"
    assert verdict(json.dumps(record).encode()) == old


def edited(change: Callable[[Record], object]) -> Callable[[Record], bytes]:
    def made(record: Record) -> bytes:
        change(record)
        return json.dumps(record).encode()

    return made


def renewed(change: Callable[[Record], object]) -> Callable[[Record], bytes]:
    def made(record: Record) -> bytes:
        change(record)
        return json.dumps(refooted(record)).encode()

    return made


def without_tests(record: Record) -> None:
    nothing = finished(Collected())
    record.clear()
    record.update(nothing)


WRONG: dict[str, tuple[Callable[[Record], bytes], str]] = {
    "empty": (lambda r: b" \n", "it is empty"),
    "truncated": (lambda r: json.dumps(r).encode()[:-40], "it is truncated or no JSON"),
    "no UTF-8": (lambda r: b"\xff\xfe\xfa", "it is truncated or no JSON"),
    "an array": (lambda r: b"[]", "it is a JSON list, expected an object"),
    "format 1": (
        lambda r: json.dumps(sealed({"counts": {}})).encode(),
        "it is of format 1, which is not checked here",
    ),
    "format 3": (edited(lambda r: r.update(format=3)), "its format is 3, expected 2"),
    "no footer": (edited(lambda r: r.pop(FOOTER)), "has no footer"),
    "below the footer": (
        edited(lambda r: r.update(format=r.pop("format"))),
        "has something below its footer",
    ),
    "a key twice": (
        lambda r: json.dumps(r).encode().replace(b'{"', b'{"run": 1, "', 1),
        "it has 'run' twice",
    ),
    "no number": (lambda r: json.dumps(r).encode().replace(b"0.5", b"NaN", 1), "it has NaN"),
    "edited": (edited(lambda r: r["tests"][1].update(verdict="crashed")), "was edited: its digest is "),
    "one character": (lambda r: json.dumps(r).encode().replace(b"no GPU", b"no gpu"), "was edited"),
    "reordered clauses": (
        edited(lambda r: r.update(backend=dict(reversed(r["backend"].items())))),
        "was edited",
    ),
    "reordered": (renewed(lambda r: r["tests"].reverse()), "is not sorted: test 't.py::test_e' comes after"),
    "a test twice": (renewed(lambda r: r["tests"].insert(0, r["tests"][0])), "is not sorted"),
    "a test less": (
        renewed(lambda r: r["tests"].pop()),
        "does not add up: selection.tests is 6, its tests give 5",
    ),
    "another test": (
        renewed(lambda r: r["tests"][5].update(test="t.py::test_g")),
        "add up: selection.sha256",
    ),
    "a failure less": (renewed(lambda r: r["counts"].update(failed=1)), "does not add up: counts is"),
    "the footer's": (renewed(lambda r: r[FOOTER]["counts"].update(failed=1)), "add up: footer.counts is"),
    "its number": (renewed(lambda r: r[FOOTER].update(tests=7)), "does not add up: footer.tests is 7"),
    "a reason": (renewed(lambda r: r["not_run"].update(other=1)), "does not add up: not_run is"),
    "complete": (
        renewed(lambda r: r["run"].update(complete=False)),
        "does not add up: run.complete is False",
    ),
    "a status": (renewed(lambda r: r["run"].update(exit_status=0)), "does not add up: run.exit_status is 0"),
    "more": (renewed(lambda r: r.update(more=1)), "leaves the schema at $: "),
    "a verdict": (renewed(lambda r: r["tests"][0].update(verdict="fine")), "leaves the schema at $.tests[0]"),
    "passed, a message": (
        renewed(lambda r: r["tests"][0].update(message="")),
        "leaves the schema at $.tests[0]",
    ),
    "no test": (edited(without_tests), "no test ran, so it says nothing"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_rejected(
    name: str, record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence that names what is wrong, and status 1."""
    made, message = WRONG[name]
    path = tmp_path / "r.json"
    path.write_bytes(made(copy.deepcopy(record)))
    assert main(["report", "check", str(path)]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith(f"{path}: rejected: ")
    assert message in shown
    assert shown.count("\n") == 1


@pytest.mark.parametrize(
    ("status", "interrupted", "some", "ours"),
    [
        (0, False, True, 0),
        (0, False, False, NOTHING),  # nothing but skips: that is no pass
        (1, False, True, 1),
        (2, False, True, 1),  # -x
        (2, True, True, STATUS),
        (3, False, True, 3),
        (5, False, False, NOTHING),
    ],
)
def test_the_exit_status(status: int, interrupted: bool, some: bool, ours: int) -> None:
    assert _status(status, interrupted, some) == ours


def test_check(record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps(record))
    assert main(["report", "check", str(path)]) == 0
    assert capsys.readouterr().out.startswith(f"{path}: torch on cpu: 1 passed")
    assert main(["report", "check", str(tmp_path / "absent.json")]) == 2
    assert "No such file" in capsys.readouterr().err


def test_a_report_of_an_earlier_version_is_of_format_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps(sealed({"backend": "torch", "counts": {"passed": 1}, "failed": []})))
    assert main(["report", "check", str(path)]) == 1
    assert "it is of format 1" in capsys.readouterr().err
