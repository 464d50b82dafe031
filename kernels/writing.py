"""Files that are written whole or not at all; and, asked before the work, why one cannot be written.

A file is made beside its destination and moved there, so a kill leaves the old one or the new one. Beside it
a kill can leave `.NAME.xxxxxxxx.tmp`. Its writer holds a lock on it for as long as it lives, so the next
write of the same path knows which of these nobody writes any more, and removes them.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows: what a killed writer left stays
    fcntl = None


def write_whole(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path``; a kill at any moment leaves the old file or the new one (ARB-TRAIN-004).

    Raises OSError with ``path`` as its file, which is then as it was.
    """
    with naming(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path):
        remove_leftovers(path)
        temporary, file = _beside(path)
        try:
            with file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                if fcntl is None:
                    file.close()
                os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def append_whole(path: Path, data: bytes) -> None:
    """Put ``data`` at the end of the file at ``path``, made if absent; what fails half-way is taken back.

    Seen by other processes at once, on disk after `synced`. Raises OSError with ``path`` as its file.
    """
    with naming(path), path.open("ab", buffering=0) as file:
        before, left = os.fstat(file.fileno()).st_size, memoryview(data)
        try:
            while left:
                left = left[file.write(left) :]
        except BaseException:
            file.truncate(before)
            raise


def synced(path: Path) -> None:
    """Wait until the file at ``path`` is on disk, its name too. Raises OSError with ``path`` as its file."""
    with naming(path):
        with path.open("rb+", buffering=0) as file:
            os.fsync(file.fileno())
        _sync_folder(path.parent)


def remove_leftovers(path: Path) -> None:
    """Remove what writers of ``path`` that were killed have left beside it."""
    pattern = re.compile(re.escape(f".{path.name}.") + r"[0-9a-f]{8}\.tmp")
    if fcntl is None or not path.parent.is_dir():
        return
    for entry in os.scandir(path.parent):
        if pattern.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
            with contextlib.suppress(OSError), open(entry.path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its writer lives
                os.unlink(entry.path)


def unwritable(path: Path) -> str | None:
    """Why no file can be put at ``path``, in words that follow it, or None.

    A file is made, and removed, in the nearest folder that there is: what may be written is not only a
    matter of permissions.
    """
    try:
        mode = _mode(path)
        if mode is not None and not stat.S_ISREG(mode):
            return f"is a {'folder' if stat.S_ISDIR(mode) else 'pipe or a device'}, expected a file"
        folder = path.parent
        while _mode(folder) is None:
            if folder.is_symlink():
                return f"cannot be written: {folder} is a link to nothing"
            folder = folder.parent
        missing = max(path.relative_to(folder).parts, key=lambda part: len(os.fsencode(part)))
        made, file = _beside(folder / missing)
        file.close()
        made.unlink()
    except (OSError, ValueError) as error:
        return f"cannot be written: {getattr(error, 'strerror', None) or error}"
    return None


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """An error of the system inside is one of ``path``, not of a descriptor or a temporary file."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _beside(path: Path) -> tuple[Path, BinaryIO]:
    """A new empty file beside ``path``, open and locked."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        file = temporary.open("xb")
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a file system without locks: nobody else can take it either
                fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return temporary, file
        file.close()  # taken for a leftover before it was locked


def _mode(path: Path) -> int | None:
    """Of what is at ``path``, None if nothing is."""
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return None


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # a move is on disk once the folder is
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
