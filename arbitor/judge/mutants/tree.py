"""Copies of the checkout in which one file is wrong, and the servers that run tests there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arbitor.kernels.writing import write_whole

LEFT_OUT = ("runs", "reports", "build", "dist", "shared")
CACHES = shutil.ignore_patterns("__pycache__", ".pytest_cache", ".hypothesis", "results")


class ServerLost(RuntimeError):
    """The process that runs the tests of mutants died; the message says how."""


@dataclass(frozen=True)
class Answer:
    """What one run of pytest did. `failed` has {"test", "message"}; `status` is pytest's, None if there is
    none because the process died or ran out of time."""

    status: int | None
    timed_out: bool
    passed: int
    skipped: int
    failed: list[dict[str, str]]
    files: dict[str, list[str]]
    log: Path


def copy_checkout(root: Path, tree: Path) -> None:
    """What the suite needs of the checkout at `root`, without results, environments and caches."""
    for entry in sorted(root.iterdir()):
        if entry.name.startswith(".") or entry.name in LEFT_OUT:
            continue
        if entry.is_dir():
            shutil.copytree(entry, tree / entry.name, ignore=CACHES)
        else:
            shutil.copy2(entry, tree / entry.name)


class Worker:
    """A copy of the checkout and a server that runs tests in it, one at a time; `packages` are imported once
    for all of them."""

    def __init__(
        self, root: Path, folder: Path, environment: Mapping[str, str], packages: Sequence[str] = ()
    ) -> None:
        self.tree, self.folder = folder / "tree", folder
        self.environment = dict(environment)
        self.packages = packages
        self.tree.mkdir(parents=True)
        copy_checkout(root, self.tree)
        self._server: subprocess.Popen[str] | None = None

    def run(self, arguments: Sequence[str], seconds: float, warm: bool = False) -> Answer:
        """Run pytest with these arguments; `warm` leaves compiled files for the runs that follow.

        Raises ServerLost if the server itself died.
        """
        log, record = self.folder / "log.txt", self.folder / "record.json"
        record.unlink(missing_ok=True)
        request = {
            "tree": str(self.tree),
            "arguments": list(arguments),
            "environment": self.environment,
            "seconds": seconds,
            "log": str(log),
            "record": str(record),
            "warm": warm,
        }
        found = self._ask(request)
        told: dict[str, Any] = {"status": None, "passed": 0, "skipped": 0, "failed": [], "files": {}}
        if record.is_file():
            told |= json.loads(record.read_text(encoding="utf-8"))
        return Answer(**told, timed_out=found["timed_out"], log=log)

    @contextmanager
    def edited(self, file: str, text: str) -> Iterator[None]:
        """While active, that file of the copy has this text."""
        path = self.tree / file
        before = path.read_bytes()
        cached = path.parent / "__pycache__"
        for old in cached.glob(f"{path.stem}.*.pyc"):
            old.unlink()
        write_whole(path, text.encode())
        try:
            yield
        finally:
            write_whole(path, before)

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.kill()
            self._server.communicate()
            self._server = None

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        server = self._server or self._start()
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        return self._answer(server)

    def _start(self) -> subprocess.Popen[str]:
        words = [sys.executable, str(Path(__file__).with_name("server.py")), *self.packages]
        environment = os.environ | self.environment
        with (self.folder / "server.txt").open("w") as errors:
            self._server = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
                start_new_session=True,  # Ctrl-C is for who asks
            )
        self._answer(self._server)
        return self._server

    def _answer(self, server: subprocess.Popen[str]) -> dict[str, Any]:
        assert server.stdout is not None
        line = server.stdout.readline()
        if not line:
            self.close()
            end = (self.folder / "server.txt").read_text(errors="replace")[-400:]
            raise ServerLost(f"the server of mutants ended: {end.strip()}")
        found: dict[str, Any] = json.loads(line)
        return found
