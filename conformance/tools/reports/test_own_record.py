"""`verify` ends with 0 only where its own record is one, and the suite is what it was at the start."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from arbitor.conformance.tools.reports.test_report import Record, collected, finished, refooted
from arbitor.judge.suite import digests
from arbitor.judge.verify import _looked_at

Change = Callable[[Record], object]


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite of one file, with a kernel beside it."""
    for name in ("conformance/test_pack.py", "kernels/pack.py"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("x = 1\n", encoding="utf-8")
    return tmp_path / "conformance"


def written(folder: Path, change: Change = lambda record: None) -> Path:
    """A record whose footer is its own."""
    record = finished(collected(), 1)
    change(record)
    path = folder / "report.json"
    path.write_text(json.dumps(refooted(record)), encoding="utf-8")
    return path


def test_a_good_record_keeps_its_status(suite: Path, tmp_path: Path) -> None:
    path, before = written(tmp_path), digests(suite)
    assert [_looked_at(path, suite, before, status) for status in (0, 1, 130)] == [0, 1, 130]


@pytest.mark.parametrize("name", ["conformance/test_pack.py", "kernels/pack.py", "conformance/new.py"])
def test_a_suite_that_changed_gives_no_verdict(
    name: str, suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file rewritten, or one more: the run is none, whatever it found."""
    path, before = written(tmp_path), digests(suite)
    (tmp_path / name).write_text("x = 2\n", encoding="utf-8")
    assert _looked_at(path, suite, before, 0) == 1
    assert capsys.readouterr().out.endswith(f"its verdict is none: {name}\n")


def test_a_file_that_went_gives_no_verdict(suite: Path, tmp_path: Path) -> None:
    path, before = written(tmp_path), digests(suite)
    (suite / "test_pack.py").unlink()
    assert _looked_at(path, suite, before, 0) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r["run"].update(exit_status=0), "run.exit_status is 0, but something failed"),
        (lambda r: r["counts"].update(failed=0, passed=4), "does not add up"),
        (lambda r: r.pop("not_run"), "leaves the schema"),
        (lambda r: r.update(tests=[]), "does not add up"),
    ],
)
def test_a_record_that_is_rejected_is_no_zero(
    change: Change, words: str, suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, change)
    assert _looked_at(path, suite, digests(suite), 0) == 1
    assert words in capsys.readouterr().out


def test_a_record_that_is_gone_is_no_zero(suite: Path, tmp_path: Path) -> None:
    assert _looked_at(tmp_path / "report.json", suite, digests(suite), 0) == 1
