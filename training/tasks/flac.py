"""The length that a FLAC claims, and a FLAC without it.

A decoder believes the claim: it stops there, whatever follows, and what is missing it may not notice. So the
claim is read here and hidden from the decoder, which then decodes what there is. STREAMINFO is the first
block of the stream (RFC 9639, section 8.2); tags of ID3v2 may stand before it.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from typing_extensions import Buffer

_LENGTH = 21  # where the 36 bits begin, in the lower half of a byte
_MASK = (0xF0, 0, 0, 0, 0)


def claim_of(file: BinaryIO) -> tuple[int, int] | None:
    """Where the 36 bits of the claimed samples are, and what they say; None for what is no FLAC. The file is
    at its beginning afterwards."""
    start, head = 0, b""
    while True:
        file.seek(start)
        head = file.read(_LENGTH + len(_MASK))
        if head[:3] != b"ID3" or len(head) < 10:
            break
        size = 0
        for byte in head[6:10]:  # seven bits each
            size = size << 7 | byte & 0x7F
        start += 10 + size
    file.seek(0)
    if head[:4] != b"fLaC" or len(head) < _LENGTH + len(_MASK):
        return None
    return start + _LENGTH, int.from_bytes(head[_LENGTH:], "big") & 2**36 - 1


class Unclaimed(io.RawIOBase):
    """The bytes of `file` with the claim at `place` put to 0, which is unknown."""

    def __init__(self, file: BinaryIO, place: int) -> None:
        self._file, self._place = file, place

    def readable(self) -> bool:
        """It is read and nothing else."""
        return True

    def seekable(self) -> bool:
        """As the file."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of the file."""
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Buffer) -> int:
        """The next bytes."""
        start, view = self._file.tell(), memoryview(buffer).cast("B")
        data = self._file.read(len(view))
        view[: len(data)] = data
        for number, mask in enumerate(_MASK):
            place = self._place + number - start
            if 0 <= place < len(data):
                view[place] &= mask
        return len(data)
