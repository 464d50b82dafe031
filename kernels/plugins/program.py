"""The process of a stranger's backend: started, asked line by line, and started again if it is lost.

A program that dies, hangs or writes what is no answer costs the call in which it did so: that raises
ProgramFailed with the end of its stderr, and the next call starts it anew.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from ..plain import lines
from ..reading import said
from . import keeper, protocol
from .answers import WrongAnswer
from .reach import environment, reach

TIMEOUT_VARIABLE = "ARB_PROGRAM_TIMEOUT"
TIMEOUT = 60.0  # seconds for one answer
GRACE = 2.0  # seconds for a program to end after its stdin has
ENDING = 10.0  # seconds for the keeper to kill everything
STARTING = 300.0  # seconds for the hello, in which a module is imported
SLACK = 1 << 20  # bytes of an answer beside its arrays
TAIL = 1000  # characters of stderr that a message repeats


class ProgramFailed(RuntimeError):
    """The program died, hung or wrote something that is no answer; the message has the end of its stderr."""


_programs: weakref.WeakSet[Program] = weakref.WeakSet()
_running: set[Program] = set()  # kept, whoever forgets them: each has a process


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Programs that are made meanwhile are stopped at its end."""
    before = set(_programs)
    try:
        yield
    finally:
        for program in set(_programs) - before:
            program.stop()


@atexit.register
def _close_all() -> None:
    for program in set(_running):
        program.close()


def timeout() -> float:
    """Seconds that a program has for one answer; raises ValueError for a setting that is none."""
    text = os.environ.get(TIMEOUT_VARIABLE) or str(TIMEOUT)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"{TIMEOUT_VARIABLE} is {text!r}, expected seconds above 0")
    return seconds


class NotBegun(ProgramFailed):
    """It answered its hello with an error: `told`, as it was."""

    def __init__(self, told: Any) -> None:
        super().__init__(f"it could not begin: {said(told)}")
        self.told = told


class Program:
    """One running program at a time; `ask` starts it where there is none."""

    def __init__(self, words: list[str], keep: Sequence[int] = ()) -> None:
        """`keep` are descriptors that it inherits."""
        self.words = words
        self.keep = keep
        self.folder = Path.cwd()  # a test may be elsewhere when it is started again
        self.hello: dict[str, Any] = {}
        self.starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline = -1
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._stderr: IO[bytes] | None = None
        self._rest = b""
        self._number = 0
        _programs.add(self)

    def ask(self, fields: Mapping[str, Any], room: int = 0) -> dict[str, Any]:
        """The program's answer to one request, of `room` bytes and a little more.

        Raises ProgramFailed, and then there is no program.
        """
        if self._process is None:
            self.start()
        return self._ask(fields, room)

    def start(self) -> None:
        """Start it and say hello; raises ProgramFailed."""
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the program
        self._temporary = tempfile.TemporaryDirectory(prefix="arbitor-backend-", ignore_cleanup_errors=True)
        theirs, self._lifeline = os.pipe()
        folder = self._temporary.name
        words = [sys.executable, "-I", "-S", keeper.__file__, str(theirs)]
        try:
            self._process = subprocess.Popen(
                [*words, json.dumps(reach(folder, self.folder)), "--", *self.words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                cwd=self.folder,
                env=environment(folder, self.folder),
                pass_fds=(theirs, *self.keep),
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:  # the folder that it was found from is gone, say
            os.close(theirs)
            os.close(self._lifeline)
            self._stderr.close()
            self._temporary.cleanup()
            raise ProgramFailed(f"it {keeper.REFUSED}{error.strerror}: {error.filename}") from None
        _running.add(self)
        os.close(theirs)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        self.starts += 1
        self._rest, self._number = b"", 0
        try:
            self.hello = self._ask(
                {"hello": {"protocol": protocol.VERSION}}, seconds=max(timeout(), STARTING)
            )
        except ProgramFailed as error:
            found = str(error).partition(f"; its stderr ends: {keeper.REFUSED}")
            if found[1]:
                raise ProgramFailed(f"it {keeper.REFUSED}{found[2]}") from None
            raise
        if "error" in self.hello and self.hello.get("protocol") == protocol.VERSION:
            self.stop()
            raise NotBegun(self.hello["error"])
        if self.hello.get("protocol") != protocol.VERSION:
            self.stop()
            raise ProgramFailed(
                f"its hello has protocol {self.hello.get('protocol')!r}, expected {protocol.VERSION}"
            )

    def close(self) -> None:
        """Let it end by itself, as what checks for leaks wants to; end it if it does not."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=GRACE)
        self.stop()

    def stop(self) -> None:
        """End it, and all that it started, now (keeper.py)."""
        process, self._process = self._process, None
        if process is None:
            return
        _running.discard(self)
        os.close(self._lifeline)
        try:
            process.wait(timeout=ENDING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout, self._stderr):
            if pipe is not None:
                pipe.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def _ask(self, fields: Mapping[str, Any], room: int = 0, seconds: float | None = None) -> dict[str, Any]:
        number, self._number = self._number, self._number + 1
        what = fields.get("operation") or fields.get("ask") or "its hello"
        try:
            request = protocol.request_line({"id": number, **fields})
            line = self._exchange(request, room + SLACK, seconds or timeout())
            return protocol.answer_of(line, number)
        except (WrongAnswer, _Lost) as error:
            tail = self._tail()
            self.stop()
            raise ProgramFailed(f"in {what} it {error}{tail}") from None
        except BaseException:  # interrupted: the answer still to come would be taken for the next one
            self.stop()
            raise

    def _exchange(self, request: bytes, longest: int, seconds: float) -> bytes:
        """Write one line and read one, whichever of the two the program takes its time for."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        limit = time.monotonic() + seconds
        unsent, found = memoryview(request), self._rest
        if found:
            raise _Lost(f"wrote {found[: protocol.SHOWN]!r} before it was asked")
        pieces: list[bytes] = []
        size = 0
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            selector.register(process.stdin, selectors.EVENT_WRITE)
            while not pieces or b"\n" not in pieces[-1]:
                ready = selector.select(max(0.0, limit - time.monotonic()))
                if time.monotonic() >= limit:  # also of one that writes on and on
                    raise _Lost(f"gave no answer within {seconds:g} s ({TIMEOUT_VARIABLE} sets the limit)")
                for key, _ in ready:
                    if key.fileobj is process.stdin:
                        unsent = unsent[self._write(process.stdin, unsent) :]
                        if not unsent:
                            selector.unregister(process.stdin)
                        continue
                    piece = os.read(process.stdout.fileno(), 1 << 20)
                    if not piece:
                        raise _Lost(self._end(process, b"".join(pieces)))
                    pieces.append(piece)
                    size += len(piece)
                if size > longest:
                    raise _Lost(f"wrote {size} bytes without an end of line, expected at most {longest}")
        line, _, self._rest = b"".join(pieces).partition(b"\n")
        if unsent:
            raise _Lost(f"answered {line[: protocol.SHOWN]!r} before it had read the request")
        return line

    @staticmethod
    def _write(pipe: IO[bytes], data: memoryview) -> int:
        try:
            return os.write(pipe.fileno(), data[: 1 << 16])
        except BrokenPipeError:
            return len(data)  # it has ended, or closed its stdin; reading says which

    @staticmethod
    def _end(process: subprocess.Popen[bytes], written: bytes) -> str:
        try:
            status = process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return "closed its stdout"
        cause = f"ended with status {status}" if status >= 0 else f"died of {_signal(-status)}"
        return cause + (f" after {written[: protocol.SHOWN]!r} without an end of line" if written else "")

    def _tail(self) -> str:
        if self._stderr is None:
            return ""
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - TAIL))
        text = lines(self._stderr.read().decode("utf-8", "backslashreplace").strip())
        return f"; its stderr ends: {text}" if text else "; its stderr is empty"


class _Lost(Exception):
    """Why a program has to be started again, after "it"."""


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
