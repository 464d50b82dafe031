"""What may be named as data on the command line: it is read, or refused in one sentence with status 2."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from arbitor.conformance.training.tasks.entries import bind, whole

pytest.importorskip("PIL.Image", reason="decodes images")
pytest.importorskip("soundfile", reason="decodes sound files")

from arbitor.training import entry
from arbitor.training.commands import Command
from arbitor.training.tasks.corpus import load_corpus

pytestmark = pytest.mark.timeout(60)  # what waits for a pipe waits for ever

LONG = "n" * 5000
SOURCES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a name of 5,000 characters": (lambda p: LONG, "a name that is too long for a file"),
    "a long path": (lambda p: "n/" * 2500, "a name that is too long for a file"),
    "an empty string": (lambda p: "", "nothing: the name is an empty string"),
    "nothing": (lambda p: p, "nothing"),
    "below a file": (lambda p: Path(__file__) / "x", "nothing"),
    "a NUL": (lambda p: "a\0b", "a name that no file can have"),
    "a FIFO": (os.mkfifo, "a FIFO"),
    "a socket": (lambda p: bind(p, b""), "a socket"),
    "a device": (lambda p: "/dev/zero", "a device"),
    "a link to nothing": (lambda p: p.symlink_to("gone"), "a link to nothing"),
    "a link to itself": (lambda p: p.symlink_to(p.name), "a link to itself"),
    "a file of the kernel": (lambda p: "/proc/kmsg", r"(a file|no \w+; skipped: kmsg \(empty\))"),
    "an empty file": (lambda p: p.touch(), r"(a file|no \w+; skipped: source \(empty\))"),
}


@pytest.mark.parametrize("task", entry.TASKS)
@pytest.mark.parametrize("source", SOURCES)
def test_a_source_of_no_use_is_one_sentence(
    tmp_path: Path, task: str, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And status 2, for every kind of data."""
    make, found = SOURCES[source]
    made = make(tmp_path / "source")
    name = str(tmp_path / "source" if made is None else made)
    assert Command("a test", task).main(["--no-save", "--steps", "1", "--data", name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert whole(rf"error: (corpus|images|sound) '.*?': .*found {found}(,.*)?", line), line
    assert len(line) < 500 + len(str(tmp_path))


def test_sparse_sizes_are_not_believed(tmp_path: Path) -> None:
    """A file is its bytes, zeros too, but 2^40 of them are refused before one is read."""
    (tmp_path / "a").touch()
    os.truncate(tmp_path / "a", 2**40)
    with pytest.raises(ValueError, match=r"found no text; skipped: a \(does not fit: "):
        load_corpus(tmp_path / "a")
