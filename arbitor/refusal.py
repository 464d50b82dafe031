"""What a command says of what others wrote: text without commands to the terminal; why it does nothing."""

from __future__ import annotations

import argparse
import sys
import unicodedata
from typing import NoReturn

from arbitor.kernels.reading import cut

USAGE_ERROR = 2
LONGEST = 4000  # characters of a sentence
# controls, marks of writing direction, what stands for no character, separators of lines and paragraphs; what
# joins the letters and pictures of one character stays
_COMMANDS = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"


def plain(text: object, keep: str = "", instead: str | None = None) -> str:
    """`text` with everything written out that a terminal would take for a command: escapes, marks that turn
    the direction of writing, lone surrogates, and newlines unless `keep` has them.

    The one place for it: whatever a file, a checkpoint, an artifact, a report or a backend says goes through
    here before it is printed. `instead` stands for each such character.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(_written_out(c, instead) if _is_command(c) and c not in keep else c for c in text)


def _is_command(c: str) -> bool:
    return unicodedata.category(c) in _COMMANDS and c not in _JOINERS


def _written_out(c: str, instead: str | None) -> str:
    return c.encode("unicode_escape").decode() if instead is None else instead


def lines(text: object) -> str:
    """`plain` text of several lines, with tabs."""
    return plain(text, keep="\n\t")


def lacking(error: ModuleNotFoundError, what: str, extra: str) -> str:
    """That `what` needs a package of an extra. From a checkout: on PyPI `arbitor` is another project, and
    arbitor-ternary, which this is, is not there."""
    return f"no module named {error.name!r}: {what} needs pip install -e '.[{extra}]' in a checkout"


def refuse(sentence: str) -> int:
    """Say on stderr why a command does nothing; gives its exit status."""
    print(f"error: {plain(cut(sentence, LONGEST))}", file=sys.stderr)
    return USAGE_ERROR


def sentence_of(error: BaseException) -> str:
    """An error in one line: what the system says, behind the file it says it of; else the message's first."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    said = str(error).strip().splitlines()
    return said[0] if said else "out of memory" if isinstance(error, MemoryError) else type(error).__name__


class Parser(argparse.ArgumentParser):
    """Refuses a command line as everything else is refused: in one sentence, without lines of usage."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        raise SystemExit(refuse(f"{message} (--help shows what there is)"))
