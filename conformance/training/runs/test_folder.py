"""Run folders: metrics that survive a kill or are refused, configurations compared before a resume, the
picture."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arbitor.training.recording import picture
from arbitor.training.recording.lines import read_lines
from arbitor.training.recording.run_folder import RunFolder, config_mismatch


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunFolder]:
    with RunFolder(tmp_path / "runs", "first") as folder:
        yield folder


def steps(run: RunFolder) -> list[int]:
    return [record["step"] for record in read_lines(run.metrics.path)]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "a\\b", "../up", ".hidden", "a\0b", "a\nb"])
def test_names_that_leave_the_folder(tmp_path: Path, name: str) -> None:
    """A run is one folder below the root."""
    with pytest.raises(ValueError, match="run name"):
        RunFolder(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_folder_is_made_once(tmp_path: Path) -> None:
    """An existing run is opened as it is; nothing is made before it is entered."""
    with RunFolder(tmp_path / "runs", "été 1") as run:
        run.metrics.append({"step": 1})
    with RunFolder(tmp_path / "runs", "été 1") as run:
        assert steps(run) == [1]
    RunFolder(tmp_path / "elsewhere", "run")
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_is_had_alone(tmp_path: Path) -> None:
    """While it is entered, also from the same process, and no longer."""
    first, second = (RunFolder(tmp_path, "run") for _ in range(2))
    for one, other in ((first, second), (second, first)):
        with one, RunFolder(tmp_path, "another"):
            one.metrics.append({"step": 1})
            with (
                pytest.raises(ValueError, match=f"run 'run' in .* is in use by process {os.getpid()}:"),
                other,
            ):
                pass
    assert steps(first) == [1, 1]


@pytest.mark.parametrize("place", ["file", "file/run", "file/a/run"])
def test_a_file_where_a_folder_should_be(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    folder = RunFolder((tmp_path / place).parent, Path(place).name)
    with pytest.raises(ValueError, match=r"/file is a file, expected a folder or nothing"), folder:
        pass


def test_config(run: RunFolder) -> None:
    """Written whole or not at all."""
    run.write_config({"width": 64, "betas": (0.9, 0.95)})
    with pytest.raises(TypeError):
        run.write_config({"width": object()})
    assert json.loads(run.config_path.read_bytes()) == {"width": 64, "betas": [0.9, 0.95]}
    assert [path.name for path in run.path.iterdir()] == ["config.json"]


def test_append(run: RunFolder) -> None:
    """One line at once, exact numbers of any library, null for those that JSON does not have."""
    run.metrics.append({"step": 1, "loss": 0.1, "text": "ü"})
    assert run.metrics.path.read_text() == '{"step": 1, "loss": 0.1, "text": "\\u00fc"}\n'
    run.metrics.append(
        {"step": np.int64(2), "loss": np.float32(0.1), "votes": torch.tensor(5), "val_loss": math.inf}
    )
    run.metrics.append({"step": 3, "loss": torch.tensor(math.nan)})
    assert read_lines(run.metrics.path)[1:] == [
        {"step": 2, "loss": float(np.float32(0.1)), "votes": 5, "val_loss": None},
        {"step": 3, "loss": None},
    ]


def test_read_metrics_of_nothing(tmp_path: Path) -> None:
    """No file, no records."""
    assert read_lines(tmp_path / "metrics.jsonl") == []


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize("kept", [0, 1, 4])
@pytest.mark.parametrize("torn", [0, 1, 7])
def test_rewind(run: RunFolder, kept: int, torn: int) -> None:
    """To the lines of a checkpoint, byte for byte, whatever a kill has left behind them; what is written next
    follows, and is in the next mark."""
    for step in range(kept):
        run.metrics.append({"step": step, "loss": 1 / (step + 1), "text": "ü"})
    mark, before = run.metrics.mark(), run.metrics.path.read_bytes() if kept else b""
    for step in range(kept, kept + 2):
        run.metrics.append({"step": step})
    run.metrics.path.write_bytes(run.metrics.path.read_bytes()[: -torn or None])
    after = RunFolder(run.path.parent, run.name)
    after.metrics.refuse_damaged(mark)
    after.metrics.rewind(mark)
    assert run.metrics.path.read_bytes() == before
    assert after.metrics.mark() == mark
    after.metrics.append({"step": kept})
    assert steps(run) == [*range(kept + 1)]
    after.metrics.refuse_damaged(after.metrics.mark())


DAMAGE: dict[str, tuple[Callable[[bytes], bytes | None], str]] = {
    "deleted": (lambda data: None, "is not there, expected the 3 lines (75 bytes) that"),
    "emptied": (lambda data: b"", "ends after 0 of the 3 lines"),
    "torn": (lambda data: data[:-1], "ends after 2 of the 3 lines"),
    "without its first line": (lambda data: data[25:], "ends after 2 of the 3 lines"),
    "without its last line": (lambda data: data[:-25], "ends after 2 of the 3 lines"),
    "with a hole": (lambda data: data[:30] + bytes(9) + data[39:], "has other bytes than the 3 lines"),
    "of other numbers": (lambda data: data.replace(b"0.5", b"0.6"), "has other bytes than the 3 lines"),
    "in another order": (lambda data: data[25:] + data[:25], "has other bytes than the 3 lines"),
}


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize("case", DAMAGE)
def test_metrics_that_have_lost_something(run: RunFolder, case: str) -> None:
    """One sentence that says what, and what to do; the file stays as it is. Begun anew it is kept beside."""
    for step in range(3):
        run.metrics.append({"step": step, "loss": 0.5})
    mark = run.metrics.mark()
    assert mark["bytes"] == 75
    damage, said = DAMAGE[case]
    damaged = damage(run.metrics.path.read_bytes())
    run.metrics.path.unlink()
    if damaged is not None:
        run.metrics.path.write_bytes(damaged)
    with pytest.raises(ValueError, match="put it back, or go on without them with --new-metrics") as refused:
        run.metrics.refuse_damaged(mark)
    assert said in str(refused.value)
    assert (run.metrics.path.read_bytes() if damaged is not None else None) == damaged
    moved = run.metrics.begin()
    assert not run.metrics.path.exists()
    assert run.metrics.mark() == {"lines": 0, "bytes": 0, "sha256": hashlib.sha256().hexdigest()}
    if damaged is None:
        assert moved is None
    else:
        assert moved == f"{run.metrics.path} is {run.metrics.path}.1 now"
        assert run.path.joinpath("metrics.jsonl.1").read_bytes() == damaged


@pytest.mark.parametrize(
    "tail", [b"{", b'{"st', b'{"step": 1}', b'{"step": 1}\n\n', b'{"step": 1}\n\0\0\0', b'{"step": 1}\n\xff']
)
def test_a_run_that_is_watched(run: RunFolder, tail: bytes) -> None:
    """A whole record without its line feed counts; half of one, zeros and other bytes at the end do not."""
    run.metrics.append({"step": 0})
    with run.metrics.path.open("ab") as file:
        file.write(tail)
    assert steps(run) == [0, 1][: 1 + (len(tail) > 4)]


@pytest.mark.parametrize("line", ["{", "[1]", "nonsense", ""])
def test_damage_before_the_end(run: RunFolder, line: str) -> None:
    """That is not a torn write, and it is not passed over."""
    run.metrics.path.write_text(f'{{"step": 0}}\n{line}\n{{"step": 2}}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2: .*expected a JSON object"):
        read_lines(run.metrics.path)


def test_an_earlier_run_is_set_aside(run: RunFolder) -> None:
    """Whatever it left and whatever else there is; a folder that holds no run stays."""
    assert run.set_aside() is None
    (run.path / "notes.txt").write_text("mine")
    assert run.set_aside() is None
    run.path.with_name("first.1").symlink_to("nowhere")  # taken, though there is nothing behind it
    for number, (file, text) in enumerate(
        [("metrics.jsonl", "{\n{\n"), ("config.json", ""), ("loss.png", ""), ("checkpoint.safetensors", "")],
        2,
    ):
        (run.path / file).write_text(text)
        aside = run.path.with_name(f"first.{number}")
        assert run.set_aside() == f"{run.path} held an earlier run: it is {aside} now"
        assert (aside / file).read_text() == text
        assert list(run.path.iterdir()) == []
    assert (run.path.with_name("first.2") / "notes.txt").read_text() == "mine"


def test_a_run_that_cannot_be_set_aside(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    run.metrics.append({"step": 3})

    def fails(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(ValueError, match=r"cannot be moved to .*first\.1: Device or resource busy"):
        run.set_aside()
    assert steps(run) == [3]


def test_config_mismatch() -> None:
    """Values that JSON writes alike are alike; what one side lacks differs."""
    old: dict[str, Any] = {
        "width": 64,
        "betas": [1, 2],
        "seed": 1,
        "model": {"depth": 2, "heads": 4},
        "gone": None,
    }
    new: dict[str, Any] = {
        "width": 64,
        "betas": (1, 2),
        "seed": True,
        "model": {"depth": 3, "heads": 4},
        "added": 0,
    }
    assert config_mismatch(old, new) == [
        "added is not in the run, 0 was asked for",
        "gone is None in the run, none was asked for",
        "model.depth is 2 in the run, 3 was asked for",
        "seed is 1 in the run, True was asked for",
    ]
    assert config_mismatch(old, old) == []
    assert config_mismatch({"model": {}}, {"model": 3}) == ["model is {} in the run, 3 was asked for"]


def test_plot(run: RunFolder) -> None:
    """A PNG for every set of keys, for one point, for gaps and for a run that diverged."""
    pytest.importorskip("matplotlib", reason="draws the plot of a run")
    for step in range(400):
        run.metrics.append(
            {"step": step, "loss": 5 - step / 100 if step != 7 else math.nan, "votes": 10 * step, "flips": 0}
        )
    run.metrics.append({"step": 400, "loss": 8e5, "val_loss": 1.5})
    assert run.plot("title", guess_name="unigram entropy", guess=3.3) == run.plot_path
    assert run.plot_path.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in run.path.iterdir()) == ["loss.png", "metrics.jsonl"]
    run.metrics.begin()
    run.metrics.append({"step": 0, "loss": 5.0, "votes": 0, "flips": 0})
    run.plot("one point, of a run named $^$")
    run.metrics.begin()
    run.metrics.append({"step": 0, "val_loss": 2.0, "flips": 0})
    run.plot("validation alone, nothing moved")


@pytest.mark.parametrize("record", [{}, {"step": 1, "flips": 3}, {"step": 1, "loss": math.nan}])
def test_plot_of_nothing(run: RunFolder, record: dict[str, float]) -> None:
    """Refused, and no file is left."""
    if record:
        run.metrics.append(record)
    with pytest.raises(ValueError, match="no finite loss"):
        run.plot("title")
    assert not run.plot_path.exists()


def test_plot_without_matplotlib(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is optional: a sentence says what to install, and nothing is written."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    run.metrics.append({"step": 1, "loss": 2.0})
    said = "it needs matplotlib, which is not installed: pip install matplotlib"
    with pytest.raises(ValueError, match=said):
        run.plot("run")
    assert not run.plot_path.exists()


def test_smoothing_neither_lags_nor_spreads_a_spike() -> None:
    """A running median: a line stays a line away from its ends, one wild value vanishes, gaps stay gaps."""
    line = np.arange(400, dtype=np.float64)
    assert (picture._smooth(line)[5:-5] == line[5:-5]).all()
    spiked = line.copy()
    spiked[200] = 8e5
    assert np.abs(picture._smooth(spiked) - line).max() <= 5
    spiked[100] = np.nan
    assert np.isnan(picture._smooth(spiked)).nonzero()[0].tolist() == [100]
