"""`arbitor verify`: run the conformance suite on one backend and write down what ran on what.

The suite is found and started, never imported: `arbitor` depends on nothing that depends on it. The report
counts tests that did not run beside those that passed, with their reasons, and names the commit. It is
sealed by its own hash, so that one that was edited by hand or cut short shows; that is no signature.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import __path__ as parts
from .asked import NotUsable, asked_for
from .blame import Ran, blamed, clauses_of
from .checkpoint import write_whole
from .provenance import machine, source
from .refusal import refuse
from .seal import sealed


def verify(
    name: str, device: str, path: Path | None, arguments: Sequence[str], declared: Path | None = None
) -> int:
    """Run `pytest conformance --backend name` and write the report; gives pytest's exit status.

    `arguments` go to pytest; `path` None is reports/verify-<backend>-<time>.json; `declared` is a file of
    capabilities. If the backend cannot run, or the suite is not there, that is one sentence and status 2.
    """
    try:
        backend = asked_for(name, device, declared)
        suite = find_suite()
        import pytest
    except (NotUsable, RuntimeError) as error:
        return refuse(str(error))
    except ModuleNotFoundError as error:
        return refuse(f"no module named {error.name!r}: the suite needs pip install 'arbitor[test]'")
    started, begin = datetime.now(UTC), time.monotonic()
    if path is None:
        path = Path("reports", f"verify-{_file_name(name)}-{started:%Y-%m-%dT%H-%M-%SZ}.json")
    collected = Collected()
    words = [*_layout(suite), "--backend", name, "--device", device, *arguments]
    words += ["--capabilities", str(declared)] if declared is not None else []
    status = int(pytest.main(words, plugins=[collected]))
    record = {
        "backend": name,
        "module": backend.module.__name__,
        "device": device,
        "capabilities": backend.capabilities.as_record() if backend.capabilities is not None else None,
        "arguments": list(arguments),
        "date": started.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - begin, 1),
        "exit_status": status,
        **collected.summary(),
        "machine": machine(),
        "source": source(suite.parent),
    }
    write_whole(path, (json.dumps(sealed(record), indent=2) + "\n").encode())
    print(f"report: {path}")
    return status


def _file_name(name: str) -> str:
    """The name of a backend as a part of a file's name: a path or a command line is none."""
    return re.sub(r"[^\w.-]+", "_", name.removeprefix("cmd:")).strip("._") or "backend"


def find_suite() -> Path:
    """The folder of the conformance suite: beside the package in a checkout, inside it when installed."""
    for part in parts:
        folder = Path(part, "conformance")
        if (folder / "conftest.py").is_file():
            return folder
    raise RuntimeError(f"the conformance suite is not below {' or '.join(parts)}")


class Collected:
    """A pytest plugin that counts what every test did, also under pytest-xdist."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(("passed", "failed", "error", "skipped", "xfailed"), 0)
        self.reasons: Counter[str] = Counter()
        self.failed: list[str] = []
        self.ran: list[Ran] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        """One phase of one test: a pass counts by its call, anything else by the phase where it happened."""
        if report.skipped:
            expected = hasattr(report, "wasxfail")
            self._count("xfailed" if expected else "skipped")
            self.reasons[report.wasxfail if expected else _reason(report.longrepr)] += 1
        elif report.failed:
            self._count("failed" if report.when == "call" else "error", report.nodeid)
            self.ran.append(Ran(report.nodeid, clauses_of(report), True))
        elif report.when == "call":
            self._count("passed")
            self.ran.append(Ran(report.nodeid, clauses_of(report), False))

    def pytest_collectreport(self, report: Any) -> None:
        """A file that could not be collected, or was skipped as a whole."""
        if report.failed:
            self._count("error", report.nodeid)
        elif report.skipped:
            self._count("skipped")
            self.reasons[_reason(report.longrepr)] += 1

    def _count(self, outcome: str, failed: str = "") -> None:
        self.counts[outcome] += 1
        if failed:
            self.failed.append(failed)

    def summary(self) -> dict[str, Any]:
        """Counts by outcome, how often which reason kept a test from running, what failed, sorted, and the
        clauses that it points at (blame.py)."""
        return {
            "counts": self.counts,
            "not_run": dict(sorted(self.reasons.items())),
            "failed": sorted(self.failed),
            "clauses": blamed(self.ran),
        }


def _layout(suite: Path) -> list[str]:
    """Arguments that name the suite and its settings: the checkout's own, or stand-ins when installed."""
    if (suite.parent / "pyproject.toml").is_file():
        return [str(suite)]
    # Not the settings of whatever project lies above; and nothing is written into the package.
    alone = ["-c", os.devnull, "--rootdir", str(suite), "-p", "no:cacheprovider", "--import-mode=importlib"]
    return [str(suite), *alone]


def _reason(where: Any) -> str:
    return str(where[2]).removeprefix("Skipped: ") if isinstance(where, tuple) else str(where)
