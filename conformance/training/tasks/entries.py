"""What a folder of data can have in it: files of each kind of data by number, and every kind of entry with
the reason why it is left out. Nothing of training/ is imported here."""

from __future__ import annotations

import os
import re
import socket
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np


def text(number: int) -> bytes:
    return f"text {number:04d}\n".encode()


def image(number: int) -> bytes:
    from PIL import Image

    file = BytesIO()
    Image.fromarray(np.full((8, 8), number, np.uint8)).save(file, "PNG")
    return file.getvalue()


def sound(number: int) -> bytes:
    import soundfile

    file = BytesIO()
    soundfile.write(file, np.arange(2000) * number / 2**15 % 1, 8000, "PCM_16", format="FLAC")
    return file.getvalue()


# by kind of data: how a file's name ends, and its bytes by number
FILES: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "text": (".txt", text),
    "images": (".png", image),
    "sound": (".flac", sound),
}


def pixels_claimed(width: int, height: int) -> bytes:
    """A PNG that says so and has next to nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 9)), (b"IEND", b""))
    framed = [struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def samples_claimed(claim: int, data: bytes | None = None) -> bytes:
    """A FLAC whose header says so: 36 bits from the lower half of byte 21."""
    made = bytearray(sound(3) if data is None else data)
    made[21] = made[21] & 0xF0 | claim >> 32
    made[22:26] = struct.pack(">I", claim & 0xFFFFFFFF)
    return bytes(made)


def claims(path: Path, _good: bytes) -> None:
    if path.suffix == ".txt":
        path.touch()
        os.truncate(path, 2**40)
    else:
        png = path.suffix == ".png"
        path.write_bytes(pixels_claimed(2**31 - 1, 2**31 - 1) if png else samples_claimed(2**36 - 1))


def outside(path: Path, good: bytes) -> Path:
    """A file that is in no folder of data."""
    other = path.parents[2] / f"outside{path.suffix}"
    other.write_bytes(good)
    return other


def bind(path: Path, _good: bytes) -> None:
    """A socket, by a short name: the system allows 107 bytes."""
    before = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)


READ = ""
# what is put at a/entry.SUFFIX, and why it is left out
Entry = tuple[Callable[[Path, bytes], object], str]
ENTRIES: dict[str, Entry] = {
    "file": (lambda p, good: p.write_bytes(good), READ),
    "link to a file outside": (lambda p, good: p.symlink_to(outside(p, good)), READ),
    "link to a file beside it": (lambda p, _: p.symlink_to(f"0{p.suffix}"), r"the same file as a/0\.\w+"),
    "link to a file in another folder": (
        lambda p, _: p.symlink_to(f"../b/0{p.suffix}"), r"the same file as b/0\.\w+",
    ),
    "hard link": (lambda p, _: os.link(p.parent / f"1{p.suffix}", p), r"the same file as a/1\.\w+"),
    "link to nothing": (lambda p, _: p.symlink_to("gone"), "a link to nothing"),
    "link to itself": (lambda p, _: p.symlink_to(p.name), "a link to itself"),
    "link to its own folder": (lambda p, _: p.symlink_to("."), "a link to a folder"),
    "link to a folder outside": (lambda p, _: p.symlink_to(p.parents[2]), "a link to a folder"),
    "FIFO": (lambda p, _: os.mkfifo(p), "not a regular file: a FIFO"),
    "link to /dev/zero": (lambda p, _: p.symlink_to("/dev/zero"), "not a regular file: a device"),
    "link to /proc/kmsg": (lambda p, _: p.symlink_to("/proc/kmsg"), "empty"),
    "link to endless zeros that are no device": (lambda p, _: p.symlink_to("/proc/self/mem"), "empty"),
    "socket": (bind, "not a regular file: a socket"),
    "empty file": (lambda p, _: p.touch(), "empty"),
    "claims of more than there is": (
        claims, r"not text: .*|does not fit: .*|too large: .*|claims 68,719,476,735 samples and has 2,000",
    ),
}  # fmt: skip


def folder_with(root: Path, kind: str) -> Path:
    """Two files in a, one in b, which can all be read; the place of one more."""
    suffix, good = FILES[kind]
    for number, name in enumerate(("a/0", "a/1", "b/0")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / f"{name}{suffix}").write_bytes(good(number + 1))
    return root / "a" / f"entry{suffix}"


def whole(pattern: str, found: str) -> bool:
    """Whether all of `found` is as the pattern says."""
    return re.fullmatch(pattern, found) is not None
