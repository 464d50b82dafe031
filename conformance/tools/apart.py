"""pytest, or `arbitor`, in a process of its own that starts in milliseconds: it is forked from one which has
imported everything and computed nothing. For tests of the suite whose backend may do anything to its process.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from arbitor.judge.blame import clauses_of

SECONDS = 120
LOADED = ["torch", "pytest", "hypothesis", "arbitor.conformance.conftest", "arbitor.conformance.tools.apart"]


@dataclass
class Seen:
    """What a run of pytest in another process came to; `status` None: the process ended without a word."""

    status: int | None = None
    failed: dict[str, str] = field(default_factory=dict)  # test: what it said
    passed: set[str] = field(default_factory=set)
    clauses: dict[str, list[str]] = field(default_factory=dict)  # of each test
    printed: str = ""


class Recorder:
    """A plugin of the other process that fills a Seen."""

    def __init__(self) -> None:
        self.seen = Seen()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = report.nodeid.rpartition("/")[2]
        self.seen.clauses[test] = clauses_of(report)
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            words = crash.message if crash is not None else str(report.longrepr)
            self.seen.failed[test] = f"{self.seen.failed.get(test, '')}{words}\n"
        elif report.when == "call" and report.passed:
            self.seen.passed.add(test)


def judge(pipe: Connection, folder: Path, words: list[str]) -> None:
    """In the other process: pytest with these words, or `arbitor` if that is the first one."""
    os.chdir(folder)
    os.environ.pop("PYTEST_CURRENT_TEST", None)  # of the test that asks
    torch.set_num_threads(1)
    recorder = Recorder()
    with (folder / "printed").open("w") as shown:
        for stream in (1, 2):
            os.dup2(shown.fileno(), stream)
        if words[0] == "arbitor":
            from arbitor.cli import main

            status = main(words[1:])
        else:
            status = int(pytest.main(words, plugins=[recorder]))
    recorder.seen.status = status
    pipe.send(recorder.seen)


def run(folder: Path, *words: str) -> Seen:
    """What came of it; what was printed up to the end, however it ended."""
    context = get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=judge, args=(theirs, folder, [*words]), daemon=True)
    seen = Seen()
    with mine:
        process.start()
        theirs.close()
        if mine.poll(SECONDS):
            with contextlib.suppress(EOFError):
                seen = mine.recv()
    process.kill()
    process.join()
    process.close()
    printed = folder / "printed"
    seen.printed = printed.read_text() if printed.is_file() else ""
    return seen
