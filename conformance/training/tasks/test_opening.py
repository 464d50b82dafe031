"""Every kind of entry that a folder or a command line can have, walked over text, images and sound: each is
read, or left out with one reason that names it. Nothing waits, and nothing is taken at its word."""

from __future__ import annotations

import os
import re
import stat
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arbitor.conformance.training.tasks.entries import (
    ENTRIES,
    FILES,
    READ,
    folder_with,
    outside,
    samples_claimed,
    whole,
)

pytest.importorskip("PIL.Image", reason="decodes images")
pytest.importorskip("soundfile", reason="decodes sound files")

from arbitor.training.tasks import opening
from arbitor.training.tasks.corpus import load_corpus
from arbitor.training.tasks.images import load_images
from arbitor.training.tasks.opening import Reading
from arbitor.training.tasks.sound import load_sound

pytestmark = pytest.mark.timeout(60)  # what waits for a pipe waits for ever

LOADERS: dict[str, Callable[[Path], Any]] = {"text": load_corpus, "images": load_images, "sound": load_sound}


def size_of(loaded: Any) -> int:
    return len(loaded.train) + len(loaded.valid)


def reasons(loaded: Any, name: str) -> list[str]:
    """Why that file was left out, each time that it is named."""
    found = [line.partition(" (") for line in loaded.skipped]
    return [reason[:-1] for path, _, reason in found if path.rstrip("/") == name]


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("entry_kind", ENTRIES)
def test_every_kind_of_entry_is_read_or_named(tmp_path: Path, kind: str, entry_kind: str) -> None:
    (_, good), load = FILES[kind], LOADERS[kind]
    place = folder_with(tmp_path / "data", kind)
    before = size_of(load(tmp_path / "data"))
    make, reason = ENTRIES[entry_kind]
    make(place, good(4))
    loaded = load(tmp_path / "data")
    left_out = reasons(loaded, f"a/{place.name}")
    if reason == READ:
        assert (left_out, size_of(loaded) > before) == ([], True)
    else:
        assert size_of(loaded) == before
        assert len(left_out) == 1
        assert whole(reason, left_out[0]), left_out
    assert len(loaded.skipped) == len(left_out)


def inside(folder: Path, name: str, data: bytes) -> None:
    folder.mkdir()
    (folder / name).write_bytes(data)


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize("kind", FILES)
def test_a_folder_may_have_the_name_of_a_file(tmp_path: Path, kind: str) -> None:
    """What lies in it is read; what is hidden is not, file or folder, however deep."""
    (suffix, good), load = FILES[kind], LOADERS[kind]
    place = folder_with(tmp_path, kind)
    before = size_of(load(tmp_path))
    inside(place, f"{'n' * 200}{suffix}", good(4))
    longer = load(tmp_path)
    assert size_of(longer) > before
    assert longer.skipped == ()
    inside(place / ".ipynb_checkpoints", f"0-checkpoint{suffix}", good(5))
    (tmp_path / "b" / f".hidden{suffix}").write_bytes(good(6))
    (tmp_path / ".git").mkdir()
    loaded = load(tmp_path)
    assert size_of(loaded) == size_of(longer)
    hidden = (".git/", f"a/{place.name}/.ipynb_checkpoints/", f"b/.hidden{suffix}")
    assert loaded.skipped == tuple(f"{name} (hidden)" for name in hidden)


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize("kind", FILES)
def test_a_link_that_is_followed_is_said(tmp_path: Path, kind: str) -> None:
    """The target's name is not needed to be of that kind: it is the link's that counts."""
    (_, good), load = FILES[kind], LOADERS[kind]
    place = folder_with(tmp_path / "data", kind)
    place.symlink_to(outside(place, good(4)))
    (place.parents[1] / "b" / f"z{place.suffix}").symlink_to(place)  # the second way to one file
    loaded = load(tmp_path / "data")
    said = f"a/{place.name} is a link to {tmp_path / 'outside'}{place.suffix}, which is read"
    assert loaded.notes == (said,)
    assert reasons(loaded, f"b/z{place.suffix}") == [f"the same file as a/{place.name}"]
    for number in range(5):
        other = tmp_path / f"other{number}"
        other.write_bytes(good(10 + number))
        place.with_name(f"more{number}{place.suffix}").symlink_to(other)
    assert load(tmp_path / "data").notes == (f"{said}; so are 5 more",)


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize("kind", FILES)
def test_no_kind_is_opened_that_is_no_file(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening a device may do something, and a FIFO's writer notices: neither is opened, even not to ask."""
    place = folder_with(tmp_path / "data", kind)
    for number, name in enumerate(("FIFO", "link to /dev/zero", "link to /proc/kmsg", "socket")):
        ENTRIES[name][0](place.with_name(f"{number}{place.name}"), b"")
    real, seen = os.open, []

    def watched(path: Any, *rest: Any, **more: Any) -> int:
        if str(path).startswith(str(tmp_path)):
            seen.append(os.stat(path))
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "open", watched)
    assert len(LOADERS[kind](tmp_path / "data").skipped) == 4
    files = [found for found in seen if not stat.S_ISDIR(found.st_mode)]
    assert [stat.S_ISREG(found.st_mode) for found in files] == [True] * 3


def test_a_size_that_is_not_that_of_what_is_read(tmp_path: Path) -> None:
    """Files of the kernel have such sizes; what changes under one size and one time does too."""
    kernel = Path("/sys/devices/system/cpu/online")
    if not kernel.is_file():
        pytest.skip("no sysfs here")
    (tmp_path / "a.txt").write_bytes(b"text")
    (tmp_path / "b.txt").symlink_to(kernel)
    size, held = kernel.stat().st_size, len(kernel.read_bytes())
    assert load_corpus(tmp_path).skipped == (f"b.txt (has a size of {size:,} bytes and {held:,} of them)",)


def meanwhile(monkeypatch: pytest.MonkeyPatch, place: Path, change: Callable[[], object]) -> None:
    """Make `change` when the file at `place` has been opened and looked at: what it is, and how large."""
    real, looked = os.fstat, list[int]()

    def fstat(descriptor: int) -> os.stat_result:
        found = real(descriptor)
        if len(looked) < 2 and os.path.samestat(found, place.stat()):
            looked.append(descriptor)
            if len(looked) == 2:
                change()
        return found

    monkeypatch.setattr(os, "fstat", fstat)


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("size", [0.5, 2])
def test_a_file_that_changes_while_it_is_read(
    tmp_path: Path, kind: str, size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder_with(tmp_path, kind)
    before = size_of(LOADERS[kind](tmp_path))
    good = FILES[kind][1](4)
    place.write_bytes(good)
    meanwhile(monkeypatch, place, lambda: os.truncate(place, int(len(good) * size)))
    loaded = LOADERS[kind](tmp_path)
    assert size_of(loaded) == before
    assert reasons(loaded, f"a/{place.name}") == ["changed while it was read"]


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_exchanged_for_a_pipe(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the question what it is and its opening, which does not wait."""
    place = folder_with(tmp_path, kind)
    place.write_bytes(FILES[kind][1](4))
    real = os.open

    def exchanged(path: Any, *rest: Any, **more: Any) -> int:
        if str(path) == str(place):
            place.unlink()
            os.mkfifo(place)
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "open", exchanged)
    assert reasons(LOADERS[kind](tmp_path), f"a/{place.name}") == ["changed while it was read"]


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_may_not_be_read(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by permissions, which do not bind the superuser."""
    place = folder_with(tmp_path, kind)
    place.write_bytes(FILES[kind][1](4))
    real = os.open

    def denied(path: Any, *rest: Any, **more: Any) -> int:
        if str(path) == str(place):
            raise PermissionError(13, "Permission denied")
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "open", denied)
    loaded = LOADERS[kind](tmp_path)
    assert reasons(loaded, f"a/{place.name}") == ["cannot be read: Permission denied"]


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("place", ["a", "."])
def test_a_folder_that_may_not_be_listed(
    tmp_path: Path, kind: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in the folder is left out; of the folder itself nothing is left."""
    folder_with(tmp_path, kind)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / f"0{FILES[kind][0]}").write_bytes(FILES[kind][1](4))
    real = os.scandir

    def denied(path: Any = ".") -> Any:
        if Path(path) == tmp_path / place:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", denied)
    reason = f"{place}/ (cannot be listed: Permission denied)"
    if place == "a":
        assert LOADERS[kind](tmp_path).skipped == (reason,)
    else:
        with pytest.raises(ValueError, match=re.escape(f"; skipped: {reason}")):
            LOADERS[kind](tmp_path)


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize("kind", FILES)
def test_what_does_not_fit(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All data together: the last file finds no room; one that is left out takes none."""
    place = folder_with(tmp_path, kind)
    (suffix, good), load = FILES[kind], LOADERS[kind]
    bad = {"text": b"\0" * len(good(1)), "images": good(1)[:50], "sound": samples_claimed(1)}
    place.write_bytes(bad[kind])
    one = {"text": len(good(1)), "images": 8 * 8 * 4, "sound": 2000 * 4}[kind]  # bytes of a file's data
    monkeypatch.setattr(opening, "room", lambda: 3 * one)
    (left_out,) = load(tmp_path).skipped
    assert left_out.startswith(f"a/{place.name} (")
    place.unlink()
    (tmp_path / "b" / f"z{suffix}").write_bytes(good(4))
    assert load(tmp_path).skipped == (
        f"b/z{suffix} (does not fit: all data may take {3 * one:,} bytes, half of the memory)",
    )


ERRORS = [
    RuntimeError("a\n\x1b[31mb"), MemoryError(), SystemError("x"), RecursionError("x"), AssertionError(),
    KeyError("x"), UserWarning("x"), struct.error("x"), ValueError("x" * 5000), OSError("x"),
]  # fmt: skip


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_a_decoder_raises_is_a_reason(tmp_path: Path, error: Exception) -> None:
    """On one line, that no terminal takes for a command and that fits on a screen."""
    (tmp_path / "a").write_bytes(b"x")
    reading = Reading(tmp_path)

    def decode(_file: Any) -> None:
        raise error

    assert reading.read(tmp_path / "a", decode) is None
    (line,) = reading.skipped
    assert line.startswith("a (cannot be decoded: ")
    assert len(line) > len("a (cannot be decoded: )")
    assert line.isprintable()
    assert len(line) < 300


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize("filter_", ["error", "ignore", "default"])
def test_what_a_decoder_warns_of(tmp_path: Path, filter_: Any) -> None:
    """It is said and decides nothing, whatever the process does with warnings."""
    (tmp_path / "a").write_bytes(b"x")
    reading = Reading(tmp_path)

    def decode(file: Any) -> bytes:
        warnings.warn("odd\nEXIF", stacklevel=1)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        found: bytes = file.read()
        return found

    with warnings.catch_warnings():
        warnings.simplefilter(filter_)
        assert reading.read(tmp_path / "a", decode) == b"x"
    assert (reading.skipped, reading.notes) == ((), ("a: odd EXIF",))


def test_names_are_shown_on_one_line(tmp_path: Path) -> None:
    """Whatever bytes are in them."""
    for name in (b"\x1b[31mred", b"two\nlines", b"\xff\xfe", "\u202eright".encode(), "caf\u00e9".encode()):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
    reading = Reading(tmp_path)
    assert reading.files() == []
    names = ("\\udcff\\udcfe", "\\u202eright", "\\x1b[31mred", "caf\u00e9", "two\\nlines")
    assert sorted(reading.skipped) == sorted(f"{name} (empty)" for name in names)
