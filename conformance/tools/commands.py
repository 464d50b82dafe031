"""What the tests of commands share: places in the suite, and what every command does with bad input."""

from __future__ import annotations

import pytest

from arbitor.judge.suite import find_suite, find_test

OPERATIONS = find_suite() / "operations"
PACKING = OPERATIONS / "packing"
# pytest's words for a run of few files, so that a process of it is soon there
FEW = [
    *(f"--ignore={room}" for room in find_suite().iterdir() if room.is_dir() and room != OPERATIONS),
    *(f"--ignore={room}" for room in OPERATIONS.iterdir() if room != PACKING),
    "-p",
    "no:cacheprovider",
]


def located(test: str) -> str:
    """`test_pack.py::test_agrees` with the place of its file, as pytest is asked for it from anywhere."""
    file, colons, name = test.partition("::")
    return f"{find_test(file.removeprefix('test_').removesuffix('.py'))}{colons}{name}"


def refused(status: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, one sentence, no text."""
    shown = capsys.readouterr()
    assert status == 2
    assert message in shown.err
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert shown.out == ""
