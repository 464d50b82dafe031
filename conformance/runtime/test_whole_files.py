"""Files that are whole or not there: a full disk, kills at any moment, and places where none can be."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from arbitor.kernels.writing import append_whole, remove_leftovers, synced, unwritable, write_whole

ALIKE = (".a.1234567.tmp", ".a.123456789.tmp", ".a.1234567G.tmp", ".b.12345678.tmp", "a.12345678.tmp")
WRITES = "import os, pathlib, sys\nfrom arbitor.kernels.writing import write_whole\n"


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def script(text: str, *words: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    pipe = subprocess.PIPE
    call = [sys.executable, "-c", WRITES + text, *map(str, words)]
    return subprocess.Popen(call, env=environment, stdin=pipe, stdout=pipe, text=True)


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes: a disk that is full in the middle of a write."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_what_a_killed_writer_leaves_goes_with_the_next_write(tmp_path: Path, call: str) -> None:
    """And nothing else: not what only looks like it."""
    for name in ALIKE:
        (tmp_path / name).write_bytes(b"mine")
    (tmp_path / ".a.00000000.tmp").mkdir()
    (tmp_path / ".a.11111111.tmp").symlink_to(ALIKE[0])
    os.mkfifo(tmp_path / ".a.22222222.tmp")
    before = names(tmp_path)
    killed = f"os.{call} = lambda *_: os.kill(os.getpid(), 9)\nwrite_whole(pathlib.Path(sys.argv[1]), b'new')"
    with script(killed, tmp_path / "a") as process:
        assert process.wait() == -signal.SIGKILL
    assert len(names(tmp_path)) == len(before) + 1
    write_whole(tmp_path / "c", b"of another")
    assert len(names(tmp_path)) == len(before) + 2
    write_whole(tmp_path / "a", b"the next")
    assert names(tmp_path) == sorted([*before, "a", "c"])
    assert (tmp_path / "a").read_bytes() == b"the next"


@pytest.mark.clause("ARB-TRAIN-004")
def test_what_a_living_writer_writes_stays(tmp_path: Path) -> None:
    """Two writers of one path at once: each file is whole, the later one is what is there."""
    waits = (
        "honest = os.fsync\n"
        "def fsync(number):\n"
        "    print('written', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    honest(number)\n"
        "os.fsync = fsync\n"
        "write_whole(pathlib.Path(sys.argv[1]), b'of the slow one')"
    )
    with script(waits, tmp_path / "a") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        write_whole(tmp_path / "a", b"of the quick one")
        remove_leftovers(tmp_path / "a")
        assert len(names(tmp_path)) == 2
        assert (tmp_path / "a").read_bytes() == b"of the quick one"
        process.stdin.write("\n\n")
        process.stdin.flush()
        assert process.wait() == 0
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"of the slow one"


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize("there", [0, 50])
@pytest.mark.parametrize("room", [0, 1, 99, 100])
def test_a_full_disk(tmp_path: Path, there: int, room: int) -> None:
    """In the middle of what is appended or written: all of it is there, or nothing, and the error names the
    file."""
    path, data = tmp_path / "a", bytes(range(100))
    path.write_bytes(b"x" * there)
    for writing, size in ((append_whole, there + room), (write_whole, room)):
        before = path.read_bytes()
        whole = before + data if writing is append_whole else data
        with largest_file(size):
            if room == 100:
                writing(path, data)
            else:
                with pytest.raises(OSError, match="too large") as failed:
                    writing(path, data)
                assert failed.value.filename == str(path)
        assert path.read_bytes() == (whole if room == 100 else before)
        assert names(tmp_path) == ["a"]
        path.write_bytes(b"x" * there)


@pytest.mark.clause("ARB-TRAIN-004")
def test_what_is_synced_is_on_disk_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file's own bytes, then its name in the folder."""
    seen: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda number: seen.append(os.readlink(f"/proc/self/fd/{number}")))
    append_whole(tmp_path / "a", b"line\n")
    assert seen == []
    synced(tmp_path / "a")
    assert seen == [str(tmp_path / "a"), str(tmp_path)]


PLACES = {
    ".": "is a folder, expected a file",
    "file/new": "cannot be written: Not a directory",
    "file/a/b": "cannot be written: Not a directory",
    "n" * 256: "cannot be written: File name too long",
    "n" * 245: "cannot be written: File name too long",  # the one beside it
    f"new/{'n' * 256}/b": "cannot be written: File name too long",
    "nul\0": "cannot be written: embedded null byte",
    "pipe": "is a pipe or a device, expected a file",
    "nowhere/b": "nowhere is a link to nothing",
    "loop": "cannot be written: Too many levels of symbolic links",
    "/dev/null": "is a pipe or a device, expected a file",
    "/proc/x": "cannot be written: No such file or directory",
    "/proc/a/b": "cannot be written: No such file or directory",
    "file": None,
    "new": None,
    "new/a/b": None,
    "link": None,
}


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize("place", PLACES)
def test_places(tmp_path: Path, place: str) -> None:
    """Known before anything is written, and nothing is left of the question; what passes can be written."""
    (tmp_path / "file").write_bytes(b"old")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to("there/is/none")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "link").symlink_to("file")
    before = names(tmp_path)
    found = unwritable(tmp_path / place)
    expected = PLACES[place]
    assert (found is None) == (expected is None), found
    assert found is None or found.endswith(str(expected))
    assert names(tmp_path) == before
    assert (tmp_path / "file").read_bytes() == b"old"
    if expected is None:
        write_whole(tmp_path / place, b"new")
        assert (tmp_path / place).read_bytes() == b"new"
    elif place != "loop" and "folder" not in expected and "pipe" not in expected:  # those can be moved onto
        with pytest.raises((OSError, ValueError)):
            write_whole(tmp_path / place, b"new")
