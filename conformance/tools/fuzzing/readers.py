"""Tries the reader of every format on files that somebody may have made, and says where one is not refused.

A file is read or refused in one sentence: no other exception, no more than 10 seconds and 200 MB, nothing in
what is printed that a terminal would take for a command.

    python -m arbitor.conformance.tools.fuzzing.readers --seconds 600 --only report
"""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from arbitor.conformance.tools.fuzzing.damage import changed, damaged
from arbitor.conformance.tools.fuzzing.forged import formats
from arbitor.conformance.tools.fuzzing.forged_records import Format

SECONDS, BYTES, PRINTED = 10, 200 << 20, 4 << 20  # of a case, at most: time, memory, what is printed


class TooLong(BaseException):
    """A reader that goes on and on."""


def case_files(form: Format, seed: int, number: int) -> dict[str, bytes]:
    """Files of case `number`: one in three has other bytes, the others have other content, sealed anew."""
    rng = random.Random(f"{seed} {form.name} {number}")
    if number % 3:
        files: dict[str, bytes] = {}
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
            files = form.build(changed(rng, form.tree))
        if files:
            return files
    files = form.build(form.tree)
    name = rng.choice(sorted(files))
    return files | {name: damaged(rng, files[name])}


def problem_of(form: Format, files: dict[str, bytes], folder: Path) -> str | None:
    """What is wrong with how these files are read, in words, or None."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    out, err = io.StringIO(), io.StringIO()
    before = _memory(reset=True)
    try:
        with _at_most(SECONDS), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = form.read(folder)
    except TooLong:
        return f"takes more than {SECONDS} s"
    except BaseException:
        return traceback.format_exc()
    grown = _memory() - before
    if grown > BYTES:
        return f"takes {grown >> 20} MB"
    return _said_wrong(status, out.getvalue(), err.getvalue())


def _said_wrong(status: int, out: str, err: str) -> str | None:
    if status not in (0, 1, 2):
        return f"ends with status {status}"
    if status == 2 and (not err.startswith("error: ") or err.count("\n") != 1):
        return f"is refused in other than a sentence: {err!r}"
    wrong = [c for c in out + err if not c.isprintable() and c not in "\n\t\u200c\u200d" and not c.isspace()]
    if wrong or "\x1b" in out + err or "\r" in out + err:
        return f"prints {sorted(set(wrong))}: {(out + err)[:500]!r}"
    return f"prints {len(out) + len(err):,} characters" if len(out) + len(err) > PRINTED else None


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise TooLong

    # of the processor's time: a busy machine is no slow reader, and pytest-timeout has the other clock
    old = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)


def _memory(reset: bool = False) -> int:
    """Bytes: the most that this process had since the last reset, or what it has now; 0 where none knows."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the formats in turn for so long; 1 if a case is wrong, which is kept in reports/."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120, help="for each format (default: %(default)s)")
    parser.add_argument("--only", action="append", metavar="FORMAT", help="may be given again; default: all")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = 0
    with tempfile.TemporaryDirectory() as place:
        all_formats = formats(Path(place))
        for name in asked.only or ():
            if name not in all_formats:
                parser.error(f"--only {name}: expected {', '.join(all_formats)}")
        for name in asked.only or all_formats:
            found += _watched(all_formats[name], asked.seed, asked.seconds, Path(place))
    return int(bool(found))


def _watched(form: Format, seed: int, seconds: float, place: Path) -> int:
    end, number, problems = time.monotonic() + seconds, 0, dict[str, int]()
    while time.monotonic() < end:
        files = case_files(form, seed, number)
        problem = problem_of(form, files, place / "case")
        if problem is not None and problem.splitlines()[-1] not in problems:
            kept = Path("reports", f"{form.name}-{seed}-{number}")
            shutil.copytree(place / "case", kept, dirs_exist_ok=True)
            print(f"{form.name} {seed} {number}, kept in {kept}: {problem}", flush=True)
        if problem is not None:
            problems[problem.splitlines()[-1]] = problems.get(problem.splitlines()[-1], 0) + 1
        number += 1
    print(f"{form.name}: {number} cases with seed {seed}, {sum(problems.values())} wrong", flush=True)
    return len(problems)


if __name__ == "__main__":
    sys.exit(main())
