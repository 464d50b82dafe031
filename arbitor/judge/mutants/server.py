"""Runs pytest again and again, each time in a process of its own that has the heavy packages already.

Started as a script, in no package: it must not import what is mutated. It reads one JSON line a request,
{"tree", "arguments", "environment", "seconds", "log", "record"}, forks, and answers {"status", "timed_out"}.
The child imports the mutated tree, writes what its tests did to the file `record`, and ends.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import time
import traceback
from typing import Any, NoReturn

PAUSE = 0.02  # seconds between looks at a child


class Recorder:
    """A pytest plugin: which tests passed, which failed and for what clauses, and which did not run."""

    def __init__(self) -> None:
        self.passed, self.skipped = 0, 0
        self.failed: list[dict[str, Any]] = []
        self.files: dict[str, list[str]] = {}

    def pytest_collection_finish(self, session: Any) -> None:
        """For every clause the files with a test of it."""
        for item in session.items:
            for name in {clause for mark in item.iter_markers("clause") for clause in mark.args}:
                file = os.path.relpath(item.path)
                if file not in self.files.setdefault(name, []):
                    self.files[name].append(file)

    def pytest_collectreport(self, report: Any) -> None:
        """A file that cannot be imported."""
        if report.failed:
            self._fail(report)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """One phase of one test."""
        if report.failed:
            self._fail(report)
        elif report.skipped:
            self.skipped += 1
        elif report.when == "call":
            self.passed += 1

    def _fail(self, report: Any) -> None:
        crash = getattr(report.longrepr, "reprcrash", None)
        message = str(crash.message if crash is not None else report.longrepr).strip()
        self.failed.append({"test": report.nodeid, "message": message.partition("\n")[0][:300]})


def child(request: dict[str, Any]) -> NoReturn:
    """Run pytest as the request says; never returns."""
    os.setsid()
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(request["environment"])
    os.chdir(request["tree"])
    sys.path.insert(0, request["tree"])
    sys.dont_write_bytecode = not request.get("warm", False)
    import pytest
    import torch

    torch.set_num_threads(1)
    recorder = Recorder()
    status = 70
    try:
        status = int(pytest.main(request["arguments"], plugins=[recorder]))
    except BaseException:
        traceback.print_exc()
    finally:
        with open(request["record"], "w", encoding="utf-8") as file:
            json.dump(vars(recorder) | {"status": status}, file)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def serve(request: dict[str, Any]) -> dict[str, Any]:
    """Fork a child, wait for it as long as the request allows."""
    pid = os.fork()
    if pid == 0:
        child(request)
    deadline = time.monotonic() + request["seconds"]
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            _end(pid)
            return {"status": os.waitstatus_to_exitcode(status), "timed_out": False}
        time.sleep(PAUSE)
    _end(pid)
    os.waitpid(pid, 0)
    return {"status": None, "timed_out": True}


def _end(pid: int) -> None:
    """End what is left of a child and of the programs that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def main() -> None:
    """Import the packages that the command line names, and serve until stdin ends.

    No plugin of pytest may be among them: pytest has to rewrite those when it starts.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asks decides when to stop
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for name in sys.argv[1:]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
