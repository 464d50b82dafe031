"""Why a command does nothing: one sentence on stderr and exit status 2, before anything is changed."""

from __future__ import annotations

import sys

USAGE_ERROR = 2


def refuse(sentence: str) -> int:
    """Say on stderr why a command does nothing; gives its exit status."""
    print(f"error: {sentence}", file=sys.stderr)
    return USAGE_ERROR
