"""Tables of a record for the page: by operation, by clause, and the cases that somebody has to look at."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .summary import WRONG, Record

VERDICTS = ("failed", "crashed", "waived", "passed", "not run")  # of a test, in the order of a bar
_ORDER = ("failed", "crashed", "waived")  # of the cases that are shown with their messages
_LONGEST = 12_000  # characters of one message
_ROOM = 500_000  # characters of all cases together; the JSON has the rest
_FRAME = 1000  # about what a case takes beside its message
_HEADLINE = 200
_LEAST = 0.6  # per cent of a bar that one case takes at least, so that it is seen
_WORKER = re.compile(r"\A\[gw\d+\] .*\n")
_NAME = re.compile(r"[\w:+.\[\]/\\-]+")  # what pytest's -k takes for one name


@dataclass(frozen=True)
class Case:
    """A failed, crashed or waived test: its message in short and whole, and commands that repeat it."""

    number: int
    test: str
    verdict: str
    clauses: Sequence[str]
    headline: str
    message: str
    whole: str
    artifact: str
    commands: Sequence[str]


@dataclass
class Row:
    """Tests with something in common, counted by verdict."""

    name: str
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def wrong(self) -> int:
        return sum(self.counts[kind] for kind in WRONG)

    @property
    def bar(self) -> list[tuple[str, float, float]]:
        """Verdict, start and width in per cent, of every verdict that there is."""
        return bar(self.counts)

    @property
    def worst(self) -> str:
        """The verdict to show where there is room for one: of a few failures among passes, failed."""
        order = ("crashed", "failed", "waived", "passed", "not run")
        return next((kind for kind in order if self.counts[kind]), "none")

    @property
    def words(self) -> str:
        """6 failed, 45 passed."""
        return ", ".join(f"{self.counts[kind]:,} {kind}" for kind in VERDICTS if self.counts[kind])


@dataclass(frozen=True)
class Matrix:
    """Clauses by operations: `cells[clause][operation]` where a test of the operation names the clause."""

    operations: Sequence[str]
    rows: Sequence[Row]
    cells: Mapping[str, Mapping[str, Row]]


def bar(counts: Mapping[str, int]) -> list[tuple[str, float, float]]:
    """Verdict, start and width in per cent; a verdict that there is stays visible."""
    there = {kind: counts[kind] for kind in VERDICTS if counts.get(kind)}
    least = sum(there.values()) * _LEAST / 100
    widths = {kind: max(number, least) for kind, number in there.items()}
    scale, start, pieces = 100 / sum(widths.values()) if widths else 0.0, 0.0, []
    for kind, width in widths.items():
        pieces.append((kind, round(start, 2), round(width * scale, 2)))
        start += width * scale
    return pieces


def operation_of(test: str) -> str:
    """The stem of a test's file without test_: pack of .../packing/test_pack.py::test_agrees."""
    return test.partition("::")[0].rpartition("/")[2].removesuffix(".py").removeprefix("test_")


def operations(record: Record) -> list[Row]:
    """A row for every file of tests, those with failures first."""
    rows: dict[str, Row] = {}
    for test in record["tests"]:
        name = operation_of(test["test"])
        rows.setdefault(name, Row(name)).counts[test["verdict"]] += 1
    return sorted(rows.values(), key=lambda row: (-row.wrong, row.name))


def matrix(record: Record) -> Matrix:
    """Clauses in the order of their names, by operations, those with failures first."""
    rows: dict[str, Row] = {}
    cells: defaultdict[str, dict[str, Row]] = defaultdict(dict)
    for test in record["tests"]:
        operation = operation_of(test["test"])
        for clause in dict.fromkeys(test["clauses"]):
            rows.setdefault(clause, Row(clause)).counts[test["verdict"]] += 1
            cells[clause].setdefault(operation, Row(operation)).counts[test["verdict"]] += 1
    names = {name for found in cells.values() for name in found}
    return Matrix(
        [row.name for row in operations(record) if row.name in names],
        [rows[clause] for clause in sorted(rows)],
        cells,
    )


def cases(record: Record) -> tuple[list[Case], int]:
    """The tests that failed, crashed or were waived, in this order, while there is room, and how many of them
    are left out."""
    wanted = [test for kind in _ORDER for test in record["tests"] if test["verdict"] == kind]
    room, found = _ROOM, []
    for number, test in enumerate(wanted, 1):
        if room <= 0:
            break
        case = _case(record, test, number)
        room -= len(case.whole) + len(case.message) + _FRAME
        found.append(case)
    return found, len(wanted) - len(found)


def _case(record: Record, test: Mapping[str, Any], number: int) -> Case:
    whole, message = (_shortened(text) for text in (test["message"], essence(test["message"])))
    head = next((line.strip() for line in message.splitlines() if line.strip()), "no message")
    artifact = test.get("artifact", "")
    return Case(
        number=number,
        test=test["test"],
        verdict=test["verdict"],
        clauses=test["clauses"],
        headline=head if len(head) <= _HEADLINE else head[:_HEADLINE] + " ...",
        message=message,
        whole=whole if _WORKER.sub("", whole).strip() != message.strip() else "",
        artifact=artifact,
        commands=commands(record, test),
    )


def essence(message: str) -> str:
    """What pytest marks with E, without the mark; the whole message where nothing is marked, but not the line
    that names the worker."""
    marked = re.sub(r"(?m)^(?!E(?: |$)).*$", "", message)
    blocks = [block for block in re.split(r"\n{2,}", marked) if block.strip()]
    cut = [textwrap.dedent(re.sub(r"(?m)^E", " ", block).strip("\n")) for block in blocks]
    return "\n\n".join(cut) or _WORKER.sub("", message)


def _shortened(message: str) -> str:
    """The beginning and the end of a message that is too long."""
    left_out = len(message) - _LONGEST
    if left_out <= 0:
        return message
    half = _LONGEST // 2
    note = f"... {left_out:,} characters are left out here, the JSON has them ..."
    return f"{message[:half]}\n{note}\n{message[-half:]}"


def commands(record: Record, test: Mapping[str, Any]) -> list[str]:
    """Lines that repeat a test alone, and its failing call where it left an artifact."""
    of, name = _backend(record), test["test"]
    more = ["--examples", "deep"] if record["run"]["examples"] == "deep" else []
    if name.startswith("conformance/"):
        apart = ["-n", "1"] if test["verdict"] == "crashed" else []  # in a process that may die
        words = ["pytest", name, *of, *more, *apart]
    else:  # of an installed suite, whose tests have no path from here
        path, mark, parameters = name.partition("[")
        function = path.rpartition("::")[2]
        whole = function + mark + parameters
        words = ["arbitor", "verify", *of, "--", "-k", whole if _NAME.fullmatch(whole) else function, *more]
    artifact = test.get("artifact")
    return [
        shlex.join(line) for line in ([["arbitor", "replay", artifact, *of]] if artifact else []) + [words]
    ]


def clause_command(record: Record) -> str:
    """The line that runs the tests of the likeliest clause; empty where nothing failed."""
    first = next(iter(record["clauses"]), None)
    return shlex.join(["arbitor", "verify", *_backend(record), "--", "--clause", first]) if first else ""


def _backend(record: Record) -> list[str]:
    """Words that name the backend and its device in a command."""
    name, device = record["backend"]["name"], record["backend"]["device"]
    return ["--backend", name, *(["--device", device] if device != "cpu" else [])]


def cases_of_clauses(found: Iterable[Case]) -> dict[str, list[Case]]:
    """The failed and crashed cases that name a clause."""
    named: defaultdict[str, list[Case]] = defaultdict(list)
    for case in found:
        for clause in dict.fromkeys(case.clauses):
            if case.verdict in WRONG:
                named[clause].append(case)
    return named


def slowest(record: Record, number: int = 10) -> list[Mapping[str, object]]:
    """The tests that took longest."""
    return sorted(record["tests"], key=lambda test: (-test["seconds"], test["test"]))[:number]
