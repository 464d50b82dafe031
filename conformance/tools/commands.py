"""What every command of ours does with bad input."""

from __future__ import annotations

import pytest

from arbitor.judge.suite import find_suite

# pytest's words for a run of few files, so that a process of it is soon there
FEW = [
    f"--ignore={find_suite() / 'meta'}",
    f"--ignore-glob={find_suite()}/test_[!p]*",
    "-p",
    "no:cacheprovider",
]


def refused(status: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, one sentence, no text."""
    shown = capsys.readouterr()
    assert status == 2
    assert message in shown.err
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert shown.out == ""
