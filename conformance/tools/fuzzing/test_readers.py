"""Readers of every format on damaged and forged files: a file is read, or refused in one sentence.

A few dozen cases a format, always the same ones; `--examples deep` tries ten times as many, and
`python -m arbitor.conformance.tools.fuzzing.readers` goes on for as long as one likes.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from arbitor.conformance.tools.fuzzing import readers
from arbitor.conformance.tools.fuzzing.damage import ESCAPES
from arbitor.conformance.tools.fuzzing.forged_records import Format
from arbitor.conformance.tools.fuzzing.readers import case_files, problem_of

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = (
    "checkpoint-2bit", "checkpoint-dense", "artifact-call", "artifact-refusal", "artifact-steps", "report",
    "vectors", "results", "capabilities-toml", "capabilities-json", "waivers", "catalogue",
)  # fmt: skip


def test_every_format_is_tried(known: dict[str, Format]) -> None:
    assert tuple(known) == NAMES


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize("name", NAMES)
def test_a_valid_file_is_read(name: str, known: dict[str, Format], tmp_path: Path) -> None:
    """So that the test below is not about files that are refused for another reason."""
    form = known[name]
    seen: list[int] = []
    watched = Format(form.name, form.tree, form.build, lambda where: _noted(form.read(where), seen))
    assert problem_of(watched, form.build(form.tree), tmp_path / "case") is None
    assert seen == [0]


def _noted(status: int, seen: list[int]) -> int:
    seen.append(status)
    return status


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize("name", NAMES)
def test_other_files_are_read_or_refused(name: str, known: dict[str, Format], tmp_path: Path) -> None:
    for number in range(settings().max_examples // 2):
        problem = problem_of(known[name], case_files(known[name], 0, number), tmp_path / "case")
        assert problem is None, f"{name}, seed 0, case {number}: {problem}"


def reading(read: Callable[[Path], Any]) -> Format:
    def status(where: Path) -> int:
        read(where)
        return 0

    return Format("x", {}, lambda tree: {"x": json.dumps(tree).encode()}, status)


def big(_: Path) -> None:
    assert bytearray(300 << 20)


@pytest.mark.parametrize(
    ("read", "problem"),
    [
        (lambda where: json.loads((where / "gone").read_bytes()), "FileNotFoundError"),
        (lambda where: print(ESCAPES), "prints "),
        (lambda where: print("\u202e"), "prints "),
        (lambda where: print("x" * readers.PRINTED), "characters"),
        (lambda where: next(n for n in itertools.count() if n < 0), "takes more than 1 s"),
        (big, "takes "),
    ],
)
def test_what_a_reader_may_not_do(
    read: Callable[[Path], Any], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the tests above can fail."""
    monkeypatch.setattr(readers, "SECONDS", 1)
    found = problem_of(reading(read), {"x": b""}, tmp_path / "case")
    assert found is not None
    assert problem in found


def test_a_refusal_is_one_sentence(tmp_path: Path) -> None:
    form = Format("x", {}, lambda tree: {}, lambda where: 2)
    assert problem_of(form, {}, tmp_path / "case") == "is refused in other than a sentence: ''"
    assert problem_of(Format("x", {}, form.build, lambda where: 3), {}, tmp_path / "case") is not None


def test_as_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """It counts its cases, and keeps one that is wrong."""
    monkeypatch.chdir(tmp_path)
    words = ["--seconds", "0.2", "--only", "waivers", "--seed", "3"]
    assert readers.main(words) == 0
    assert " cases with seed 3, 0 wrong" in capsys.readouterr().out
    monkeypatch.setattr(readers, "problem_of", lambda *_: "is wrong")
    monkeypatch.setattr(shutil, "copytree", lambda *_, **__: None)
    assert readers.main(words) == 1
    assert "waivers 3 0, kept in reports/waivers-3-0: is wrong" in capsys.readouterr().out


def test_a_format_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence that names those that there are."""
    with pytest.raises(SystemExit, match="2"):
        readers.main(["--only", "nosuch"])
    assert "--only nosuch: expected checkpoint-2bit, " in capsys.readouterr().err
