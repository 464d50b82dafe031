"""The record of a run, format 2 (docs/reports.md): made, checked against its schema, and written.

It ends in a footer with the number of tests, their counts and the digest of all that stands above it, so that
one that was edited, reordered or cut short shows. The digest is no signature: who edits a record on purpose
can make the digest anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from arbitor.judge.provenance import machine, source
from arbitor.judge.seal import FOOTER, digest_above
from arbitor.kernels import registry
from arbitor.kernels.registry import Backend
from arbitor.kernels.writing import write_whole

from . import badge, page
from .check import FORMAT, shape_fault
from .collected import Collected
from .sums import FINISHED, counts_of, reasons_of, selection_digest


def record_of(
    collected: Collected,
    backend: Backend,
    arguments: Sequence[str],
    suite: Path,
    times: tuple[datetime, float],
    status: int,
) -> dict[str, Any]:
    """The record of a run; `times` are when it began, in UTC, and its seconds. Raises ValueError for one that
    is not of the schema, which is an error of ours."""
    tests = collected.entries()
    counts = counts_of(tests)
    began, seconds = times
    record: dict[str, Any] = {
        "format": FORMAT,
        "backend": _described(backend, collected.device),
        "run": {
            "arguments": list(arguments),
            "examples": collected.examples,
            "started": began.isoformat(timespec="seconds"),
            "seconds": round(seconds, 1),
            "exit_status": status,
            "workers": collected.workers,
            "complete": collected.ended == FINISHED,
            "ended": collected.ended or "lost: pytest ended before its session did",
            **({"left_out": dict(collected.left_out)} if collected.left_out else {}),
        },
        "machine": machine(),
        "source": source(suite.parent),
        "selection": {"tests": len(tests), "sha256": selection_digest(entry["test"] for entry in tests)},
        "counts": counts,
        "not_run": reasons_of(tests),
        "totals": dict(sorted(collected.totals.items())),
        "domains": sorted(collected.domains),
        "clauses": collected.clauses(),
        "waivers": collected.states,
        "tests": tests,
    }
    record[FOOTER] = {"tests": len(tests), "counts": counts, "sha256": digest_above(record)}
    fault = shape_fault(record)
    if fault is not None:
        raise ValueError(f"the record of this run {fault}")
    return record


def _described(backend: Backend, device: str) -> dict[str, Any]:
    """The backend with all that it declares; its configurations are None where it declares none."""
    undeclared = getattr(backend.module, "configurations", None) is None
    ways = {} if undeclared else registry.configurations(backend.name, device)
    return {
        "name": backend.name,
        "module": backend.module.__name__,
        "arrays": backend.arrays,
        "device": device,
        "capabilities": backend.capabilities.as_record() if backend.capabilities is not None else None,
        "configurations": None
        if undeclared
        else {operation: list(names) for operation, names in ways.items()},
    }


def beside(path: Path) -> dict[str, Path]:
    """What is written beside a record, by what it is."""
    ends = {"page": ".html", "badge": ".badge.json", "JUnit": ".xml"}
    return {what: path.with_suffix(end) for what, end in ends.items()}


def write(record: Mapping[str, Any], path: Path) -> None:
    """Write the record to `path`, and its page and badge beside it."""
    write_whole(path, (json.dumps(record, indent=1) + "\n").encode())
    page.write(record, beside(path)["page"])
    badge.write(record, beside(path)["badge"])
