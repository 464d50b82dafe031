"""`arbitor report check`: whether a file is a whole report unedited, and says something.

It accepts a report of a run that was interrupted, and says that it is one. What it cannot see is a report
that was made up as a whole: its digest is no signature.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from arbitor.checkpoint import SPECIFICATION
from arbitor.judge.seal import FOOTER, SEAL, digest_above
from arbitor.kernels import reading
from arbitor.kernels.plain import plain
from arbitor.kernels.reading import Unreadable, cut, said
from arbitor.refusal import LONGEST, refuse

from .sums import FINISHED, counts_of, ran, reasons_of, selection_digest

FORMAT = 2
MOST = 64 * reading.MEGABYTE  # bytes of a report: 5,900 tests that all fail have 40
TESTS = 60_000  # that are looked at; the suite has a tenth of them
REJECTED = 1


def check(path: Path) -> int:
    """Say in one sentence whether the report is accepted; gives 0, 1 if it is not, 2 if it cannot be read."""
    return looked_at(path, lambda data: print(plain(cut(f"{path}: {verdict(data)}", LONGEST))))


def looked_at(path: Path, use: Callable[[bytes], object]) -> int:
    """Use the bytes of a report; gives 0, 1 if that raises ValueError, since it is none then, or 2 if it
    cannot be read, with a sentence each."""
    try:
        data = reading.file_bytes(path, MOST)
    except OSError as error:
        return refuse(f"{path}: {error.strerror}")
    except Unreadable as error:
        return refuse(f"{path}: {error}")
    try:
        use(data)
    except ValueError as error:
        print(plain(cut(f"{path}: rejected: {error}", LONGEST)), file=sys.stderr)
        return REJECTED
    return 0


def verdict(data: bytes) -> str:
    """What a report says, in a line; raises ValueError with why it is none."""
    record = parsed(data)
    fault = shape_fault(record) or digest_fault(record) or sums_fault(record)
    if fault is not None:
        raise ValueError(fault)
    counts, run = record["counts"], record["run"]
    if not ran(counts):
        raise ValueError("no test ran, so it says nothing")
    where = f"{record['backend']['name']} on {record['backend']['device']}"
    said = ", ".join(f"{number} {kind.replace('_', ' ')}" for kind, number in counts.items() if number)
    whole = (
        ""
        if run["complete"]
        else f"partial: {run['ended']}, {ran(counts)} of {len(record['tests'])} tests ran; "
    )
    judged = record["machine"].get("specification", 1)  # reports did not say so before version 2
    old = "" if judged == SPECIFICATION else f"; judged by specification {judged}, not {SPECIFICATION}"
    return f"{whole}{where}: {said}; exit status {run['exit_status']}{old}"


def parsed(data: bytes) -> dict[str, Any]:
    """The JSON object of a report of format 2; raises ValueError with why it is none."""
    record = reading.json_object(data)
    if "format" not in record and SEAL in record and "counts" in record:
        raise ValueError(f"it is of format 1, which is not checked here, expected {FORMAT}")
    if record.get("format") != FORMAT:
        raise ValueError(f"its format is {said(record.get('format'))}, expected {FORMAT}")
    return record


def shape_fault(record: Mapping[str, Any]) -> str | None:
    """Where a record leaves its schema, or None."""
    if FOOTER not in record:
        return "has no footer, so it is not whole"
    if isinstance(record.get("tests"), list) and len(record["tests"]) > TESTS:
        return f"has {len(record['tests']):,} tests, expected at most {TESTS:,}"
    schema = json.loads(Path(__file__).with_name("schema.json").read_text(encoding="utf-8"))
    fault = reading.schema_fault(record, schema)
    return None if fault is None else f"leaves the schema {fault}"


def digest_fault(record: Mapping[str, Any]) -> str | None:
    """That a record was changed after its footer was made, or None."""
    if list(record)[-1] != FOOTER:
        return "has something below its footer"
    found, told = digest_above(record), record[FOOTER]["sha256"]
    return None if found == told else f"was edited: its digest is {found}, its footer says {told}"


def sums_fault(record: Mapping[str, Any]) -> str | None:
    """What does not add up, or None; the record is of the schema."""
    tests, run = record["tests"], record["run"]
    ids = [entry["test"] for entry in tests]
    for before, after in pairwise(ids):
        if before >= after:
            return f"is not sorted: test {said(after)} comes after {said(before)}"
    counts = counts_of(tests)
    wrong = counts["failed"] + counts["crashed"] or any(w["state"] != "used" for w in record["waivers"])
    sums = (
        ("selection.tests", record["selection"]["tests"], len(tests)),
        ("selection.sha256", record["selection"]["sha256"], selection_digest(ids)),
        ("counts", record["counts"], counts),
        ("not_run", record["not_run"], reasons_of(tests)),
        ("footer.tests", record[FOOTER]["tests"], len(tests)),
        ("footer.counts", record[FOOTER]["counts"], counts),
        ("run.complete", run["complete"], run["ended"] == FINISHED),
    )
    for name, told, found in sums:
        if told != found:
            return f"does not add up: {name} is {said(told)}, its tests give {said(found)}"
    if len(set(record["domains"])) < len(record["domains"]):
        return "has a domain twice"
    if run["exit_status"] == 0 and (wrong or not run["complete"]):
        return "does not add up: run.exit_status is 0, but something failed or did not finish"
    return None
