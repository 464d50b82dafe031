"""What every command of ours does with bad input."""

from __future__ import annotations

import pytest


def refused(status: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, one sentence, no text."""
    shown = capsys.readouterr()
    assert status == 2
    assert message in shown.err
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert shown.out == ""
