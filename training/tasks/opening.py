"""How data of every kind are found, opened and left out: text, images and sound alike.

Below a folder, what is hidden (its name begins with a dot) is left out. A link to a file is followed, and
said; a link to a folder is not. A file is read once, under the name that is no link, so that nothing can be
in both parts of a split by another name. Only regular files are opened, asked before and without waiting, and
no more is taken than fits. All that is left out is named, with one reason; whatever a decoder raises is one.
"""

from __future__ import annotations

import errno
import os
import stat
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from arbitor.kernels.plain import plain
from arbitor.kernels.reading import Unreadable, cut, regular

T = TypeVar("T")

FILE, FOLDER = "a file", "a folder"
BLOCK = 1 << 20  # bytes that are read at a time
CHANGED = "changed while it was read"
_KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: FOLDER,
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_LONGEST = 200  # characters of a name or of a decoder's words, in a sentence


class LeftOut(Exception):
    """Why a file is of no use."""


def shown(text: object, longest: int = _LONGEST) -> str:
    """`text` on one line, without what a terminal would take for a command; its middle is cut if it is
    long."""
    return cut(plain(text), longest)


def look(source: str | Path) -> str:
    """What there is under a name that a user gave: FILE, FOLDER, or other words that go behind "found"."""
    if not str(source):
        return "nothing: the name is an empty string"
    found = _status(Path(source))
    return found if isinstance(found, str) else _kind(found)


def room() -> int:
    """Bytes that data may take: half of this machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def some_of(skipped: Sequence[str]) -> str:
    """The first of the files that were left out, for a sentence."""
    more = f" and {len(skipped) - 5} more" if len(skipped) > 5 else ""
    return ", ".join(skipped[:5]) + more or "nothing, it is empty"


class Reading:
    """What is read of a file or a folder, and what is not.

    `skipped` has what was left out as "NAME (REASON)", sorted; `notes` what was read and is worth a word.
    """

    def __init__(self, source: Path) -> None:
        self.source, self._alone = source, not source.is_dir()
        self._left: list[str] = []
        self._links: list[str] = []
        self._warned: list[str] = []
        self._room = room()

    @property
    def skipped(self) -> tuple[str, ...]:
        """Names below the folder, each with the reason."""
        return tuple(sorted(self._left))

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences: links that were followed, the first if they are many, and what decoders warned of."""
        links = sorted(self._links)
        if len(links) > 5:
            links = [f"{links[0]}; so are {len(links) - 1:,} more"]
        return (*links, *sorted(set(self._warned)))

    def name(self, path: Path) -> str:
        """The name of a file below the folder, or of the file itself."""
        folder = self.source.parent if self._alone else self.source
        return shown(path.relative_to(folder).as_posix(), 1000)

    @property
    def title(self) -> str:
        """The name of the data: that of the file, or of the folder, which "." has too."""
        return shown((self.source if self._alone else self.source.resolve()).name or str(self.source))

    def nothing(self, kind: str, wanted: str) -> ValueError:
        """The error of a source of which nothing was read: `kind` of data, and what was `wanted`."""
        return ValueError(
            f"{kind} '{shown(self.source)}': found no {wanted}; skipped: {some_of(self.skipped)}"
        )

    def leave_out(self, path: Path, reason: object, folder: bool = False) -> None:
        """Say that it is not read, and why."""
        self._left.append(f"{self.name(path)}{'/' * folder} ({shown(reason)})")

    def take(self, size: int) -> None:
        """Count bytes that are kept. Raises LeftOut if there is no room for them."""
        if size > self._room:
            raise LeftOut(f"does not fit: all data may take {room():,} bytes, half of the memory")
        self._room -= size

    def files(self) -> list[Path]:
        """All that can be read, in the order of the paths; the rest is left out, and nothing is opened."""
        if self._alone:
            return [self.source]
        first: dict[tuple[int, int], Path] = {}
        kept = []
        for path in sorted(self._below(), key=lambda path: (path.is_symlink(), path)):  # links last
            try:
                found = _regular(path)
            except LeftOut as reason:
                self.leave_out(path, reason)
                continue
            other = first.setdefault((found.st_dev, found.st_ino), path)
            if other is not path:
                self.leave_out(path, f"the same file as {self.name(other)}")
                continue
            if path.is_symlink():
                self._links.append(f"{self.name(path)} is a link to {shown(path.readlink())}, which is read")
            kept.append(path)
        return sorted(kept)

    def read(self, path: Path, decode: Callable[[BinaryIO], T]) -> T | None:
        """What `decode` makes of the file, or None if it is left out; then it takes no room either."""
        before = self._room
        try:
            # Recorded, so that what is read does not hang on the process's filters of warnings.
            with warnings.catch_warnings(record=True) as warned, opened(path) as file:
                warnings.simplefilter("ignore")
                warnings.filterwarnings("always", category=UserWarning)
                made = decode(file)
        except LeftOut as reason:
            self.leave_out(path, reason)
        except OSError as error:
            done = "decoded" if error.errno is None else "read"
            self.leave_out(path, f"cannot be {done}: {error.strerror or _words(error)}")
        except Exception as error:
            self.leave_out(path, f"cannot be decoded: {_words(error)}")
        else:
            self._warned += [f"{self.name(path)}: {_words(warning.message)}" for warning in warned]
            return made
        self._room = before
        return None

    def bytes_of(self, file: BinaryIO, text: bool = False) -> bytes:
        """All bytes of an opened file, block by block. Raises LeftOut if they do not fit, if there are more
        or fewer than its size says, and for a NUL where it must be `text`."""
        size, got = os.fstat(file.fileno()).st_size, 0
        self.take(size)
        blocks = []
        while block := file.read(min(BLOCK, size + 1 - got)):
            if text and b"\0" in block:
                raise LeftOut("not text: it has a NUL byte")
            blocks.append(block)
            got += len(block)
        if got != size:
            raise LeftOut(f"has a size of {size:,} bytes and {got:,} of them")
        return b"".join(blocks)

    def _below(self) -> Iterator[Path]:
        """Every entry that is neither hidden nor a folder."""

        def unlistable(error: OSError) -> None:
            self.leave_out(Path(error.filename), f"cannot be listed: {error.strerror}", folder=True)

        for parent, folders, names in os.walk(self.source, onerror=unlistable):
            here, entered = Path(parent), []
            for name in folders:
                if name.startswith("."):
                    self.leave_out(here / name, "hidden", folder=True)
                elif (here / name).is_symlink():
                    self.leave_out(here / name, "a link to a folder")
                else:
                    entered.append(name)
            folders[:] = entered
            for name in names:
                if name.startswith("."):
                    self.leave_out(here / name, "hidden")
                else:
                    yield here / name


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A regular file that is not empty, to be read from its beginning.

    Raises LeftOut for anything else, and at the end for a file that was changed meanwhile; and OSError.
    """
    _regular(path)  # before it is opened: that alone may wait, or set something off
    try:
        file = regular(path)
    except (Unreadable, IsADirectoryError):
        raise LeftOut(CHANGED) from None
    with file:
        before = os.fstat(file.fileno())
        try:
            yield file
        except Exception:
            _check_same(before, file)  # then what a decoder says is of no interest
            raise
        _check_same(before, file)


def _check_same(before: os.stat_result, file: BinaryIO) -> None:
    after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise LeftOut(CHANGED)


def _regular(path: Path) -> os.stat_result:
    """The status of a file with something in it. Raises LeftOut with what else it is.

    A size of 0 is believed: files of /proc say it, and reading one of them takes the kernel's messages away.
    """
    found = _status(path)
    if isinstance(found, str):
        raise LeftOut(found)
    if not stat.S_ISREG(found.st_mode):
        raise LeftOut(f"not a regular file: {_kind(found)}")
    if not found.st_size:
        raise LeftOut("empty")
    return found


def _status(path: Path) -> os.stat_result | str:
    """Of what a name leads to, or in words why it leads to nothing."""
    try:
        return path.stat()
    except ValueError:  # a NUL, or a character that no file's name has
        return "a name that no file can have"
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return "a link to nothing" if os.path.lexists(path) else "nothing"
        known = {errno.ELOOP: "a link to itself", errno.ENAMETOOLONG: "a name that is too long for a file"}
        return known.get(error.errno or 0, f"what cannot be looked at: {error.strerror}")


def _kind(found: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(found.st_mode), "neither a file nor a folder")


def _words(error: object) -> str:
    """What an error says, or its name."""
    return shown(" ".join(str(error).split()) or type(error).__name__)
