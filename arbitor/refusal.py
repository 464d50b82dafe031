"""What a command says of what others wrote: text without commands to the terminal; why it does nothing."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import NoReturn

from arbitor.kernels.plain import plain
from arbitor.kernels.reading import cut

USAGE_ERROR = 2
LONGEST = 4000  # characters of a sentence
SILENT = 10.0  # seconds that are enough for another process to say why it ends


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


def end_silently(status: int) -> int:
    """That status, of one of several processes that says nothing. It ends after the one that speaks: a
    launcher ends all of them when one has ended."""
    time.sleep(SILENT)
    return status


def refuse_once(sentence: str) -> int:
    """As `refuse`, where several processes have the same to say."""
    return refuse(sentence) if speaks() else end_silently(USAGE_ERROR)


class Parser(argparse.ArgumentParser):
    """Refuses a command line as everything else is refused: in one sentence, without lines of usage."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        raise SystemExit(refuse_once(f"{message} (--help shows what there is)"))
