"""Formats of files that are damaged and forged, and a folder of the test to work in."""

from __future__ import annotations

from pathlib import Path

import pytest

from arbitor.conformance.judge.target import REFERENCE, Target
from arbitor.conformance.tools.fuzzing.forged import formats
from arbitor.conformance.tools.fuzzing.forged_records import Format


@pytest.fixture(scope="module")
def known(target: Target, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Format]:
    """Every format by its name."""
    if target.backend.name not in ("torch", REFERENCE):
        pytest.skip("what files are read is no matter of the backend")
    return formats(tmp_path_factory.mktemp("formats"))


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the test's folder: artifacts go to reports/ of it."""
    monkeypatch.chdir(tmp_path)
