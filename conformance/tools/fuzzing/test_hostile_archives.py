"""Archives that are no artifacts: refused before anything is made of their directory, and without a wait."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from arbitor.cli import main
from arbitor.conformance.judge import archived
from arbitor.conformance.judge.archive import Failure, write
from arbitor.conformance.tools.commands import refused
from arbitor.conformance.tools.fuzzing.forged import cases

CALL = cases()[0]


pytestmark = pytest.mark.usefixtures("elsewhere")


ENTRY = b"PK\1\2\x14\x03\x14\0"  # of a directory; flags and the way of compression follow


def directory_of(data: bytes) -> bytes:
    """An archive whose directory has the entry of its last member sixty-four times more, over one place."""
    start = struct.unpack("<L", data[-6:-2])[0]
    entries, end = data[start:-22], data[-22:]
    last = entries[entries.rindex(b"PK\1\2") :]
    more = last * 64
    return data[:-22] + more + end[:8] + struct.pack(
        "<HHLLH", end[8] + 64, end[8] + 64, len(entries) + len(more), start, 0
    )  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (directory_of, "expected at most 64"),
        (lambda data: data[:-2] + b"\1\0x", "it does not end as a zip archive does"),
        (lambda data: data[:-22] + b"PK\6\7" + bytes(16) + data[-22:], "expected at most 64"),
        (lambda data: data[:-12] + b"\xff\xff\xff\xff" + data[-8:], "expected at most 64"),
        (lambda data: data.replace(ENTRY + bytes(4), ENTRY + b"\0\0\x08\0"), "is compressed"),
        (lambda data: data.replace(ENTRY + bytes(4), ENTRY + b"\1\0\0\0"), "is encrypted"),
        (lambda data: b"", "it does not end as a zip archive does"),
    ],
)  # fmt: skip
def test_archives_that_are_refused(
    damage: Callable[[bytes], bytes], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is made of their directory."""
    path = write(CALL, Failure())
    path.write_bytes(damage(path.read_bytes()))
    refused(main(["replay", str(path)]), message, capsys)


def test_members_that_lie_over_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    """A member within a member, which counts twice; sixty would count sixty times."""
    inside = _local(b"b", bytes(1000)) + bytes(1000)
    whole = _local(b"a", inside) + inside
    entries = _entry(b"a", inside, 0) + _entry(b"b", bytes(1000), 31)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(entries), len(whole), 0)
    Path("over.arb").write_bytes(whole + entries + end)
    refused(main(["replay", "over.arb"]), "edited: its members have more bytes than the file", capsys)


def _local(name: bytes, data: bytes) -> bytes:
    sizes = (zlib.crc32(data), len(data), len(data), len(name), 0)
    return struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 0, *sizes) + name


def _entry(name: bytes, data: bytes, offset: int) -> bytes:
    sizes = (zlib.crc32(data), len(data), len(data), len(name))
    return struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, *sizes, 0, 0, 0, 0, 0, offset) + name


def test_places_that_are_no_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(main(["replay", "/dev/zero"]), "it is a pipe, a socket or a device, expected a file", capsys)
    refused(main(["replay", str(tmp_path)]), "Is a directory", capsys)
    refused(main(["replay", "x" * 5000]), "File name too long", capsys)


def test_a_file_that_is_too_large(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(CALL, Failure())
    monkeypatch.setattr(archived, "MOST", 100)
    refused(main(["replay", str(path)]), "bytes, expected at most 100", capsys)
