"""Runs that cannot be audited: one sentence, and nothing is changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arbitor.conformance.training.audit.audits import (
    CHECKPOINT,
    CONFIG,
    RECORD,
    audited,
    lines_changed,
    without,
)
from arbitor.conformance.training.started import Started

pytestmark = pytest.mark.usefixtures("one_lane", "no_picture")


def unchanged(path: Path) -> None:
    pass


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        found = json.loads(path.read_text())
        change(found)
        path.write_text(json.dumps(found))

    return apply


FEWER = lines_changed(lambda found: found[3].update(state=found[3]["state"][16:]))
Case = tuple[str, Callable[[Path], object], str]
# of a file that was changed: which, how, and what is said
FILES: dict[str, Case] = {
    "no record": (RECORD, without, "there is no "),
    "emptied": (RECORD, lambda path: path.write_text("") and None, "is no record of a run; line 1, at $"),
    "no config": (CONFIG, without, "config.json: No such file"),
    "no corpus": (CONFIG, edited(lambda found: found.pop("corpus")), "it does not say what the data were"),
    "no gain": (CONFIG, edited(lambda found: found["options"].pop("gain")), "its options lack 'gain'"),
    "more": (CONFIG, edited(lambda found: found["options"].update(foo=1)), "its options have 'foo'"),
    "other gain": (CONFIG, edited(lambda found: found["options"].update(gain=5.0)), "options.gain is 4.0"),
    "no header": (RECORD, lines_changed(lambda found: found.remove(found[0])), "line 1, at $"),
    "a line twice": (RECORD, lines_changed(lambda found: found.append(found[-1])), "step 6 behind step 6"),
    "a gap": (RECORD, lines_changed(lambda found: found.remove(found[4])), "behind step 2, expected 3"),
    "fewer digests": (RECORD, FEWER, "line 4: 30 digests, expected those of 31 tensors"),
    "a kind": (RECORD, lines_changed(lambda found: found[0].update(kind="smell")), "expected one of text"),
    "torn state": (CHECKPOINT, cut_short, "without it, moved away, an audit goes on"),
}
# of a command line
WORDS: dict[str, str] = {
    "--steps 7..9": "--steps 7..9: the run has updates of 1 to 6",
    "--steps 3..7": "--steps 3..7: the run has updates of 1 to 6",
    "--steps 5..3": "--steps 5..3: the end is before the beginning",
    "--steps first": "--steps must be N or N..M, got 'first'",
    "--steps 3..": "--steps must be N or N..M, got '3..'",
    "--random 0": "--random must be in 1..6, the updates that can be made, got 0",
    "--random 7": "--random must be in 1..6",
    "--seed 1": "--seed goes with --random",
    "--threads 0": "--threads must be at least 1, got 0",
    "--data nowhere.txt": "nowhere.txt",
}


@pytest.mark.clause("ARB-TRAIN-006")
@pytest.mark.parametrize("case", [*FILES, *WORDS])
def test_what_cannot_be_audited(made: Started, capsys: pytest.CaptureFixture[str], case: str) -> None:
    """One sentence, and nothing of the run is changed."""
    file, damage, sentence = FILES.get(case, (CONFIG, unchanged, WORDS.get(case, "")))
    damage(made.path(file))
    before = made.contents()
    status, said = audited(made, capsys, *(case.split() if case in WORDS else ()))
    assert status == 2, said
    assert sentence in said
    assert said.splitlines()[-1].startswith("error: ")
    assert made.contents() == before
