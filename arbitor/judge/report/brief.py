"""`arbitor report summary`: what to keep of a report where the whole is too long to keep.

Its tests are counted by file, those that failed are named, and all else stays as it was. The digests of the
whole report say which one it is of; who has that one can make the summary again.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from arbitor.judge.records import laid_out
from arbitor.judge.seal import FOOTER
from arbitor.kernels.plain import plain
from arbitor.kernels.writing import write_whole
from arbitor.refusal import refuse

from .check import looked_at, parsed, verdict
from .sums import CRASHED, FAILED, WAIVED, counts_of

_SHOWN = ("name", "module", "arrays", "device")  # of the backend; what it declares is in its source
_KEPT = ("run", "machine", "source", "selection", "counts", "not_run", "totals", "clauses", "waivers")


def write_summary(path: Path, out: Path) -> int:
    """Write the summary of the report `path` to `out`; gives 0, 1 if the report is rejected (check.py), 2 if
    it cannot be read or `out` not be written."""

    def write(data: bytes) -> None:
        write_whole(out, laid_out(summary_of(data, path.name)).encode())
        print(plain(f"written: {out}"))

    try:
        return looked_at(path, write)
    except OSError as error:
        return refuse(f"{error.filename or out}: {error.strerror}")


def summary_of(data: bytes, name: str) -> dict[str, Any]:
    """The summary of a report, the file `name`; raises ValueError for one that `report check` rejects."""
    says, record = verdict(data), parsed(data)
    backend, tests = record["backend"], record["tests"]
    words = ["--backend", backend["name"], "--device", backend["device"], "--", *record["run"]["arguments"]]
    return {
        "summary_of": {
            "file": name,
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "footer_sha256": record[FOOTER]["sha256"],
        },
        "says": says,
        "command": shlex.join(["arbitor", "verify", *words]),
        "backend": {key: backend[key] for key in _SHOWN},
        **{key: record[key] for key in _KEPT},
        "domains": [_domain(text) for text in record["domains"]],
        "files": by_file(tests),
        "wrong": {t["test"]: t["verdict"] for t in tests if t["verdict"] in (FAILED, CRASHED, WAIVED)},
    }


def _domain(text: str) -> dict[str, Any]:
    """A walked domain by its name and its size, as the suite says them: NAME size N."""
    name, _, size = text.rpartition(" size ")
    return {"domain": name, "size": int(size)} if name and size.isdecimal() else {"domain": text}


def by_file(tests: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Counts and seconds of each file of tests."""
    files: dict[str, list[Mapping[str, Any]]] = {}
    for test in tests:
        files.setdefault(test["test"].partition("::")[0], []).append(test)
    return {
        file: counts_of(found) | {"seconds": round(sum(test["seconds"] for test in found), 1)}
        for file, found in files.items()
    }
