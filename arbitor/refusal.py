"""What a command says of what others wrote: text without commands to the terminal; why it does nothing."""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

from arbitor.kernels.plain import plain
from arbitor.kernels.reading import cut

USAGE_ERROR = 2
LONGEST = 4000  # characters of a sentence


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


def speaks() -> bool:
    """Whether this process is the one of those that `torchrun` has started that says what all would say."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


class Parser(argparse.ArgumentParser):
    """Refuses a command line as everything else is refused: in one sentence, without lines of usage."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        raise SystemExit(refuse(f"{message} (--help shows what there is)"))
