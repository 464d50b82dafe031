"""Runs one command so that nothing of it stays behind, and so that it cannot reach who judges it.

Started as a script, `python -I -S keeper.py LIFELINE {"none": [...], "write": [...]} -- WORDS`, with the
standard library alone. All that the command starts becomes a child of this process at last (it is a
*subreaper*), so a child that leaves its session is found too. When the command ends, or whoever holds the
other end of the pipe LIFELINE does, everything is killed.

The command can write below the folders of `write` and `/proc/self`, nowhere else, and read everything but
what lies below those of `none`; it can trace and signal only what it started itself. Linux' Landlock sees to
that, where the kernel has it (5.13 and later; signals from 6.12), by lists of what is allowed. Names of files
it lets pass everywhere, and modes and times it does not look at; a file that somebody makes later beside what
is closed cannot be read either.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import select
import signal
import stat
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

SET_CHILD_SUBREAPER, SET_NO_NEW_PRIVS = 36, 38  # of prctl
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # system calls, the same on every architecture
RULE_PATH_BENEATH, ASK_VERSION = 1, 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}  # by the least version
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | 1 << 14 | 1 << 15  # what a rule of a file may have
SCOPED = 3  # abstract sockets, signals
SIGNALS_FROM = 6  # version
REFUSED = "cannot be started: "
SECONDS = 5.0  # for everything to be gone

libc = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def version() -> int:
    """Version of Landlock of this kernel; 0 where there is none, or it is switched off."""
    return max(0, int(libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ASK_VERSION)))


def fence(none: Sequence[str], write: Sequence[str]) -> None:
    """Restrict this process, and all that it starts, for good. Raises OSError."""
    found = version()
    if not found:
        return
    every = RIGHTS[max(least for least in RIGHTS if least <= found)]
    attributes = _Ruleset(every, 0, SCOPED if found >= SIGNALS_FROM else 0)
    size = ctypes.sizeof(attributes) if found >= SIGNALS_FROM else 8
    rules = _checked(libc.syscall(CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), 0))
    _allow(rules, "/", READ_DIR)  # names of files everywhere: imports look for them
    for path in around("/", frozenset(none)):
        _allow(rules, path, EXECUTE | READ_FILE | READ_DIR)
    for folder in (*write, "/proc/self"):
        for path in around(folder, frozenset(none)):
            _allow(rules, path, every)
    _checked(libc.prctl(SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _checked(libc.syscall(RESTRICT_SELF, rules, 0))
    os.close(rules)


def around(folder: str, none: frozenset[str]) -> Iterator[str]:
    """Paths that cover everything below `folder` but `none`."""
    if folder in none or any(folder.startswith(f"{path}/") for path in none):
        return
    if not any(path.startswith(folder.rstrip("/") + "/") for path in none):
        yield folder
        return
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                yield from around(path, none)


def _allow(rules: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    if not stat.S_ISDIR(os.fstat(place).st_mode):
        rights &= OF_FILES
    beneath = _Beneath(rights, place)
    libc.syscall(ADD_RULE, rules, RULE_PATH_BENEATH, ctypes.byref(beneath), 0)
    os.close(place)


def _checked(found: int) -> int:
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


def descendants() -> list[int]:
    """Processes that this one, or a child of it, started."""
    parents: dict[int, list[int]] = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{name}/stat", "rb") as file:
            parent = int(file.read().rpartition(b")")[2].split()[1])
            parents.setdefault(parent, []).append(int(name))
    found, left = [], [os.getpid()]
    while left:
        children = parents.get(left.pop(), [])
        found += children
        left += children
    return found


def end_all() -> None:
    """Kill every descendant, and those that they start meanwhile, until there is none."""
    limit = time.monotonic() + SECONDS
    while time.monotonic() < limit:
        for process in descendants():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.002)


def wait_for(child: int, lifeline: int) -> int | None:
    """The status of the child, as wait gives it; None if the lifeline ended first."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        try:
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if found[0] == child:
                    return found[1]
        except ChildProcessError:
            return None
        ready, _, _ = select.select([woken, lifeline], [], [])
        if lifeline in ready:
            return None
        os.read(woken, 4096)


def main(words: Sequence[str]) -> int:
    """Run the command; gives its exit status, and dies of the signal that it died of."""
    lifeline, reach = int(words[0]), json.loads(words[1])
    libc.prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = os.fork()
    if not child:
        os.close(lifeline)
        _become(words[3:], reach)
    for stream in (0, 1):  # else nobody would see that the command has closed its own
        os.close(stream)
    status = wait_for(child, lifeline)
    end_all()
    if status is None:
        return 1
    if os.WIFSIGNALED(status):
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL) if os.WTERMSIG(status) != signal.SIGKILL else None
        os.kill(os.getpid(), os.WTERMSIG(status))
    return os.waitstatus_to_exitcode(status)


def _become(words: Sequence[str], reach: Mapping[str, Sequence[str]]) -> None:
    try:
        fence(reach["none"], reach["write"])
        os.execv(words[0], list(words))
    except OSError as error:
        hint = "; a script begins with #!" if error.errno == errno.ENOEXEC else ""
        print(f"{REFUSED}{error.strerror}{hint}", file=sys.stderr)
        os._exit(126)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
