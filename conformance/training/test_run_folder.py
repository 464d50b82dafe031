"""Run folders: metrics that survive a kill, configurations compared before a resume, and the picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("training", reason="the trainers do not ship with the package")

from training import run_folder
from training.run_folder import RunFolder, config_mismatch, read_metrics


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "runs", "first")


def steps(run: RunFolder) -> list[int]:
    return [record["step"] for record in read_metrics(run.metrics_path)]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "a\\b", "../up", ".hidden", "a\0b", "a\nb"])
def test_names_that_leave_the_folder(tmp_path: Path, name: str) -> None:
    """A run is one folder below the root."""
    with pytest.raises(ValueError, match="run name"):
        RunFolder(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_folder_is_made_once(tmp_path: Path) -> None:
    """An existing run is opened as it is; a file in its place is refused."""
    RunFolder(tmp_path / "runs", "été 1").append({"step": 1})
    assert steps(RunFolder(tmp_path / "runs", "été 1")) == [1]
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file, expected a folder"):
        RunFolder(tmp_path, "file")


def test_config(run: RunFolder) -> None:
    """Written whole, read back; None before, a clear error for something else."""
    assert run.read_config() is None
    run.write_config({"width": 64, "betas": (0.9, 0.95)})
    assert run.read_config() == {"width": 64, "betas": [0.9, 0.95]}
    with pytest.raises(TypeError):
        run.write_config({"width": object()})
    assert run.read_config() == {"width": 64, "betas": [0.9, 0.95]}
    assert [path.name for path in run.path.iterdir()] == ["config.json"]
    run.config_path.write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        run.read_config()
    run.config_path.write_text("[]")
    with pytest.raises(ValueError, match="holds a list, expected a JSON object"):
        run.read_config()


def test_append(run: RunFolder) -> None:
    """One line at once, exact numbers of any library, null for those that JSON does not have."""
    run.append({"step": 1, "loss": 0.1, "text": "ü"})
    assert run.metrics_path.read_text() == '{"step": 1, "loss": 0.1, "text": "\\u00fc"}\n'
    run.append({"step": np.int64(2), "loss": np.float32(0.1), "votes": torch.tensor(5), "val_loss": math.inf})
    run.append({"step": 3, "loss": torch.tensor(math.nan)})
    assert read_metrics(run.metrics_path)[1:] == [
        {"step": 2, "loss": float(np.float32(0.1)), "votes": 5, "val_loss": None},
        {"step": 3, "loss": None},
    ]


def test_read_metrics_of_nothing(tmp_path: Path) -> None:
    """No file, no records."""
    assert read_metrics(tmp_path / "metrics.jsonl") == []


@pytest.mark.clause("ARB-TRAIN-002")
def test_truncate(run: RunFolder) -> None:
    """Lines after the step go, the others stay byte for byte, and what is written next follows them."""
    run.truncate(5)
    for step in range(6):
        run.append({"step": step, "loss": 1 / (step + 1)})
    run.append({"note": "a line without a step"})
    before = run.metrics_path.read_bytes().split(b"\n")
    run.truncate(3)
    assert run.metrics_path.read_bytes().split(b"\n") == [*before[:4], before[6], b""]
    run.append({"step": 4})
    assert read_metrics(run.metrics_path)[-1] == {"step": 4}
    run.truncate(-1)
    assert read_metrics(run.metrics_path) == [{"note": "a line without a step"}]


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize("kept", range(1, 21))
def test_torn_last_line(run: RunFolder, kept: int) -> None:
    """A kill in the middle of a line: that line is no record, and the next one does not stick to it."""
    run.append({"step": 0})
    before = run.metrics_path.read_bytes()
    run.append({"step": 1, "loss": 1})
    whole = run.metrics_path.read_bytes()
    run.metrics_path.write_bytes(whole[: len(before) + kept])
    assert steps(run) == [0]
    run.truncate(9)
    run.append({"step": 1})
    assert steps(run) == [0, 1]


@pytest.mark.parametrize(
    "tail", [b'{"step": 1}', b'{"step": 1}\n\n', b'{"step": 1}\n\0\0\0', b'{"step": 1}\n\xff']
)
def test_tails_that_disks_leave(run: RunFolder, tail: bytes) -> None:
    """A whole record without its line feed counts; zeros and other bytes after the last record do not."""
    run.append({"step": 0})
    with run.metrics_path.open("ab") as file:
        file.write(tail)
    assert steps(run) == [0, 1]
    run.truncate(1)
    run.append({"step": 2})
    assert steps(run) == [0, 1, 2]


@pytest.mark.parametrize("line", ["{", "[1]", "nonsense", ""])
def test_damage_before_the_end(run: RunFolder, line: str) -> None:
    """That is not a torn write, and it is not passed over."""
    run.metrics_path.write_text(f'{{"step": 0}}\n{line}\n{{"step": 2}}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2: .*expected a JSON object"):
        read_metrics(run.metrics_path)


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
    run.append({"step": 3})

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
    for step in range(400):
        run.append(
            {"step": step, "loss": 5 - step / 100 if step != 7 else math.nan, "votes": 10 * step, "flips": 0}
        )
    run.append({"step": 400, "loss": 8e5, "val_loss": 1.5})
    assert run.plot("title", guess_name="unigram entropy", guess=3.3) == run.plot_path
    assert run.plot_path.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in run.path.iterdir()) == ["loss.png", "metrics.jsonl"]
    run.truncate(0)
    run.plot("one point")
    run.truncate(-1)
    run.append({"step": 0, "val_loss": 2.0, "flips": 0})
    run.plot("validation alone, nothing moved")


@pytest.mark.parametrize("record", [{}, {"step": 1, "flips": 3}, {"step": 1, "loss": math.nan}])
def test_plot_of_nothing(run: RunFolder, record: dict[str, float]) -> None:
    """Refused, and no file is left."""
    if record:
        run.append(record)
    with pytest.raises(ValueError, match="no finite loss"):
        run.plot("title")
    assert not run.plot_path.exists()


def test_smoothing_neither_lags_nor_spreads_a_spike() -> None:
    """A running median: a line stays a line away from its ends, one wild value vanishes, gaps stay gaps."""
    line = np.arange(400, dtype=np.float64)
    assert (run_folder._smooth(line)[5:-5] == line[5:-5]).all()
    spiked = line.copy()
    spiked[200] = 8e5
    assert np.abs(run_folder._smooth(spiked) - line).max() <= 5
    spiked[100] = np.nan
    assert np.isnan(run_folder._smooth(spiked)).nonzero()[0].tolist() == [100]
