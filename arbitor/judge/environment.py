"""What of the surroundings may not reach a judgement: words of the shell for pytest, and optimised Python."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PYTEST = "PYTEST_"  # beginning of names: PYTEST_ADDOPTS, PYTEST_PLUGINS, PYTEST_TIMEOUT, ...


def why_not_judge() -> str | None:
    """Why this Python cannot judge, in one sentence, or None."""
    if not sys.flags.optimize:
        return None
    return "python -O (PYTHONOPTIMIZE) leaves out the assertions that tests fail by: run arbitor without it"


@contextmanager
def without_pytests() -> Iterator[dict[str, str]]:
    """Take pytest's variables out of the environment meanwhile -> those that were there.

    A shell's `-k` would leave out tests, a plugin could judge otherwise, and no record would say so.
    """
    left_out = {name: os.environ.pop(name) for name in sorted(os.environ) if name.startswith(PYTEST)}
    try:
        yield left_out
    finally:
        os.environ.update(left_out)


def said(left_out: dict[str, str]) -> str:
    """One line on what was left out."""
    names = ", ".join(left_out)
    return f"left out of this run: {names} of the environment; words for pytest go behind --"
