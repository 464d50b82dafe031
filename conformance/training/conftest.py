"""Fixtures of runs by their command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from arbitor.conformance.judge.target import Target
from arbitor.conformance.training.started import Started
from arbitor.conformance.training.trainers import threads_kept


@pytest.fixture
def one_lane(target: Target) -> Iterator[None]:
    """Nothing here is a matter of the backend."""
    if target.backend.name != "torch" or target.device != "cpu":
        pytest.skip("files and processes: tested once, in the lane of torch on the CPU")
    with threads_kept():
        yield


@pytest.fixture
def started(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Started:
    """Runs in a folder of the test."""
    from arbitor.training.commands import Command
    from arbitor.training.recording.lines import read_lines

    return Started(tmp_path, capsys, Command("a test").main, read_lines)


@pytest.fixture
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    from arbitor.training.recording.run_folder import RunFolder

    monkeypatch.setattr(RunFolder, "plot", lambda *_: None)  # takes longer than all else here
