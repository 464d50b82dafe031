"""A case that kills its process, hangs or poisons the GPU's context costs that case, and no other.

Under pytest-xdist every worker writes its last words into a file: the stack of a fatal signal or of a hang
(faulthandler, whose clock runs outside the interpreter and so ends a hang in C code too), or the failure
after which the CUDA context of the process is of no more use. Whoever started the worker puts them into the
report of the test that it was at, and starts another one. Without xdist nobody could, and nothing of this
happens.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch

from arbitor.judge.blame import CLAUSES
from arbitor.judge.report.collected import Collected, collected_of
from arbitor.judge.report.sums import CRASHED

FOLDER = "arbitor folder"  # in a worker's input: where its last words go
TESTS = "tests.json"
POISONED = 70  # exit status of a worker whose CUDA context is of no more use
STILLBORN = 3  # workers in a row that end before they have collected the tests
RESTARTS = 1_000_000  # xdist's own limit is 4 a worker; the one above is ours
PATIENCE = 10.0  # seconds for a process to end once its connection has


def context_lost() -> str:
    """What CUDA says once its context is of no more use in this process; "" while it is."""
    if not torch.cuda.is_initialized():
        return ""
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        return str(error).strip().partition("\n")[0]
    return ""


def register(config: pytest.Config) -> None:
    """Put these plugins, and one that knows every verdict, into a run of the suite."""
    folder = getattr(config, "workerinput", {}).get(FOLDER)
    if folder is not None:
        config.pluginmanager.register(Worker(Path(folder), config.workerinput["workerid"]))  # type: ignore[attr-defined]
        return
    collected = collected_of(config)
    if collected is None:
        collected = Collected(config.getoption("--device"))
        config.pluginmanager.register(collected)
    config.pluginmanager.register(Starter(collected))
    if getattr(config.option, "maxworkerrestart", "") is None:
        config.option.maxworkerrestart = str(RESTARTS)


class Worker:
    """In a process that xdist started: says what the tests are, and last words."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.lost = folder / f"{name}.json"
        self.words = (folder / f"{name}.txt").open("w")

    def pytest_sessionstart(self) -> None:
        faulthandler.enable(self.words)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None]:
        everything = clauses_by_test(items)
        yield
        if not (self.folder / TESTS).exists():
            part = self.lost.with_suffix(".part")
            part.write_text(json.dumps(everything), encoding="utf-8")
            part.replace(self.folder / TESTS)

    @pytest.hookimpl(optionalhook=True)
    def pytest_timeout_set_timer(self, settings: Any) -> bool:
        """pytest-timeout's own thread needs the interpreter, which a hang in C code may never give back."""
        faulthandler.dump_traceback_later(settings.timeout, exit=True, file=self.words)
        return True

    @pytest.hookimpl(optionalhook=True)
    def pytest_timeout_cancel_timer(self) -> bool:
        """Not after a failure, as pytest-timeout does for the sake of a debugger: teardowns hang as well."""
        return True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        error = context_lost()
        if error:
            self.leave(report, error)
        return report

    def leave(self, report: pytest.TestReport, error: str) -> None:
        """End this process in the middle of the test, so that xdist takes that one for the cause."""
        message = f"after this test the CUDA context of its process is of no more use: {error}"
        words = {"message": f"{message}\n{report.longreprtext}".strip(), "properties": report.user_properties}
        self.lost.write_text(json.dumps(words, default=str), encoding="utf-8")
        os._exit(POISONED)


class Starter:
    """In the process that the user started, with workers or without."""

    def __init__(self, collected: Collected) -> None:
        self.collected = collected
        self.stillborn = 0
        self._have_collected: set[str] = set()
        self._nodes: list[Any] = []
        self._folder: Path | None = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None]:
        self.collected.known = clauses_by_test(items)
        yield

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="arbitor-"))
        node.workerinput[FOLDER] = str(self._folder)
        self._nodes.append(node)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any) -> None:
        self.stillborn = 0
        self._have_collected.add(node.gateway.id)
        if not self.collected.known and self._folder is not None:
            with contextlib.suppress(FileNotFoundError):  # of a file that is not there nothing is collected
                self.collected.known = json.loads((self._folder / TESTS).read_text(encoding="utf-8"))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """A worker that cannot even collect is started again, but not for ever."""
        self.stillborn += error is not None and node.gateway.id not in self._have_collected
        if self.stillborn >= STILLBORN:
            how = f"{STILLBORN} workers in a row ended before they had collected the tests"
            pytest.exit(
                f"{how}; the last: {self._last_words(node)}", returncode=pytest.ExitCode.INTERNAL_ERROR
            )

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: Any) -> None:
        """Say in the report of the test how its process ended."""
        report.when = "call"
        report.location = (crashitem.partition("::")[0], None, crashitem.partition("::")[2])
        report.longrepr = f"{self._last_words(report.node)}\n\nto repeat it alone: add -n 1 and '{crashitem}'"
        report.user_properties = [*self._properties(report.node), (CRASHED, True)]
        if not any(name == CLAUSES for name, _ in report.user_properties):
            report.user_properties.append((CLAUSES, list(self.collected.known.get(crashitem, ()))))

    def _properties(self, node: Any) -> list[tuple[str, Any]]:
        return [(str(name), value) for name, value in self._left(node).get("properties", ())]

    def _left(self, node: Any) -> dict[str, Any]:
        """What a worker whose CUDA context was lost left behind."""
        try:
            text = (self._folder or Path()).joinpath(f"{node.gateway.id}.json").read_text(encoding="utf-8")
        except OSError:
            return {}
        found: dict[str, Any] = json.loads(text)
        return found

    def _last_words(self, node: Any) -> str:
        status = exit_status(node)
        left = self._left(node)
        if left and status == POISONED:
            return str(left["message"])
        words = (self._folder or Path()) / f"{node.gateway.id}.txt"
        text = words.read_text(encoding="utf-8", errors="replace") if words.exists() else ""
        return how_it_ended(status, text)

    def pytest_keyboard_interrupt(self) -> None:
        """Not one that hangs, for which xdist would wait ten seconds, keeps an interrupted run."""
        for node in self._nodes:
            process = process_of(node)
            if process is not None and process.poll() is None:
                process.terminate()

    def pytest_unconfigure(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def clauses_by_test(items: list[pytest.Item]) -> dict[str, list[str]]:
    """The clauses that the tests name, by their ids."""
    return {
        item.nodeid: [str(clause) for mark in item.iter_markers("clause") for clause in mark.args]
        for item in items
    }


def process_of(node: Any) -> Any:
    """The process of a worker, where execnet keeps it."""
    return getattr(getattr(node.gateway, "_io", None), "popen", None)


def exit_status(node: Any) -> int | None:
    """Of the process of a worker: that of `wait`, so -11 for SIGSEGV; None if it has none yet."""
    process = process_of(node)
    if process is None:
        return None
    try:
        return int(process.wait(timeout=PATIENCE))
    except subprocess.TimeoutExpired:
        return None


def how_it_ended(status: int | None, words: str) -> str:
    """In a sentence, with the stack if faulthandler wrote one."""
    stack = own_frames(words)
    timeout = re.search(r"^Timeout \(([\d:.]+)\)!", words, re.MULTILINE)
    if timeout:
        limit = "--case-timeout of verify, --timeout of pytest"
        said = f"the test had not ended after {timeout[1]} ({limit}), so its process was ended"
    elif status is None:
        said = "the process of the test closed its connection"
    elif status < 0:
        names = {number.value: number.name for number in signal.Signals}
        said = f"the process of the test died of {names.get(-status, f'signal {-status}')}"
    else:
        said = f"the process of the test ended with status {status}"
    return f"{said}, at\n{stack}" if stack else said


def own_frames(words: str) -> str:
    """The stacks that faulthandler wrote, each down to where pytest begins; without those of xdist alone."""
    found = []
    for stack in re.split(r"\n(?=(?:Current thread|Thread) 0x)", words)[1:]:
        head, *frames = stack.strip().splitlines()
        kept = []
        for frame in frames:
            if "/_pytest/" in frame or "/pluggy/" in frame or "/execnet/" in frame or not frame.strip():
                break
            kept.append(frame)
        found += ["\n".join([head, *kept])] if kept else []
    return "\n".join(found)
