"""Why a command does nothing: one sentence on stderr and exit status 2, before anything is changed."""

from __future__ import annotations

import sys

USAGE_ERROR = 2


def lacking(error: ModuleNotFoundError, what: str, extra: str) -> str:
    """That `what` needs a package of an extra. From a checkout: on PyPI the name is another project's."""
    return f"no module named {error.name!r}: {what} needs pip install -e '.[{extra}]' in a checkout"


def refuse(sentence: str) -> int:
    """Say on stderr why a command does nothing; gives its exit status."""
    print(f"error: {sentence}", file=sys.stderr)
    return USAGE_ERROR
