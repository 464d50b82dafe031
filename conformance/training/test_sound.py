"""Sound: the mu-law and frames by hand, what is decoded and what is left out, and batches that (seed, step)
alone decide."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from arbitor.modalities import frames, from_mu_law, mu_law

pytest.importorskip("training", reason="the trainers do not ship")
pytest.importorskip("soundfile", reason="decodes sound files")

import soundfile

from training import entry
from training.options import Options, parse
from training.tasks import sound
from training.tasks.sound import AudioTask, Sound, load_sound, melody

MELODY_SHA256 = "fb3d7b5c41bcd417c173c6bd0382c873336437f0173334cff8bc2ffed72b59d7"
# 255 |s| + 1 is a power of two, so the logarithms are exact fractions: ln 16 / ln 256 = 1/2
BY_HAND = {
    -1.0: 0, -1 / 17: 64, -3 / 255: 96, 0.0: 128, 1 / 255: 143, 3 / 255: 159, 1 / 17: 191, 1.0: 255,
}  # fmt: skip


@pytest.mark.clause("ARB-MODEL-006")
def test_mu_law_by_hand() -> None:
    found = mu_law(torch.tensor(list(BY_HAND), dtype=torch.float32))
    assert found.dtype == torch.int64
    assert found.tolist() == list(BY_HAND.values())
    assert mu_law(torch.tensor([-0.0, 1e-30, -1e-30])).tolist() == [128, 128, 128]


@pytest.mark.clause("ARB-MODEL-006")
def test_mu_law_and_its_inverse() -> None:
    """Every code comes back, its value grows with it, and the middle of two neighbours belongs to one."""
    codes = torch.arange(256)
    values = from_mu_law(codes)
    assert values.dtype == torch.float32
    assert mu_law(values).tolist() == list(range(256))
    assert values[[0, -1]].tolist() == [-1, 1]
    assert bool((values.diff() > 0).all())
    between = mu_law((values[1:] + values[:-1]) / 2)
    assert bool(((between == codes[1:]) | (between == codes[:-1])).all())


@pytest.mark.clause("ARB-MODEL-006")
@pytest.mark.parametrize("sample", [1.0001, -1.0001, math.inf, -math.inf, math.nan])
def test_mu_law_refuses(sample: float) -> None:
    with pytest.raises(ValueError, match=r"samples must be in -1\.\.1"):
        mu_law(torch.tensor([0.0, sample]))


@pytest.mark.clause("ARB-MODEL-006")
def test_frames_by_hand() -> None:
    """What does not fill a frame is left out; less than one frame is refused."""
    found = frames(torch.tensor([[1.0, 2, 3, 4, 5], [6, 7, 8, 9, 10]]), 2)
    assert found.tolist() == [[[1, 2], [3, 4]], [[6, 7], [8, 9]]]
    for wrong in (torch.zeros(1, 1), torch.zeros(4), torch.zeros(1, 1, 4)):
        with pytest.raises(ValueError, match=r"waveform must have shape \[B, S\], S at least 2"):
            frames(wrong, 2)


def test_the_default_corpus(capsys: pytest.CaptureFixture[str]) -> None:
    """The same bytes on every machine, 16 bits a sample, and said to be synthesised."""
    found = load_sound()
    samples = np.concatenate([found.train, found.valid])
    assert found.sha256 == hashlib.sha256(samples.tobytes()).hexdigest() == MELODY_SHA256
    assert (found.rate, len(found.train), len(found.valid)) == (8000, 432_000, 48_000)
    assert samples.dtype == np.float32
    assert np.array_equal(samples, melody())
    assert np.array_equal(samples * 2**15, np.round(samples * 2**15))
    assert 0.85 < np.abs(samples).max() < 0.95
    assert "synthesised" in found.name
    assert "synthesised" in str(sound.__doc__)
    with pytest.raises(SystemExit):
        parse("a trainer", ["--help"], data="audio")
    assert "synthesised" in capsys.readouterr().out


Waveform = npt.NDArray[np.float64]


def write(path: Path, samples: Waveform | list[float] | list[list[float]], rate: int = 8000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    subtype = "FLOAT" if path.name.startswith("float") else "PCM_16"
    soundfile.write(path, np.asarray(samples), rate, subtype=subtype)


def whole(found: Sound) -> list[float]:
    return [float(sample) for sample in np.concatenate([found.train, found.valid])]


def test_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the order of the paths, channels averaged; what is of no use is named, with the reason."""
    write(tmp_path / "b.flac", [0.5, -0.5])
    write(tmp_path / "a" / "stereo.WAV", [[0.5, -0.25], [-1.0, 0.5]])
    write(tmp_path / ".hidden" / "c.wav", [0.75])
    write(tmp_path / "float_loud.wav", [0.5, 1.5])
    write(tmp_path / "float_nan.wav", [0.5, math.nan])
    write(tmp_path / "silent.wav", [])
    (tmp_path / "corrupt.wav").write_bytes(b"RIFF\x10\0\0\0WAVEnonsense")
    (tmp_path / "empty.flac").touch()
    (tmp_path / "cover.png").write_bytes(b"\x89PNG")
    (tmp_path / "link.wav").symlink_to("b.flac")
    whole_file = (tmp_path / "b.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole_file[: len(whole_file) // 2])
    found = load_sound(tmp_path)
    assert whole(found) == [0.125, -0.25, 0.5, -0.5]
    assert (
        found.sha256
        == hashlib.sha256(np.array([0.125, -0.25, 0.5, -0.5], dtype=np.float32).tobytes()).hexdigest()
    )
    reasons = {line.split(" (")[0]: line.split(" (", 1)[1] for line in found.skipped}
    wav = {f"{name}.wav" for name in ("corrupt", "float_loud", "float_nan", "link", "silent")}
    assert set(reasons) == wav | {"cover.png", "cut.flac", "empty.flac"}
    for name in ("corrupt.wav", "cut.flac", "empty.flac"):
        assert reasons[name].startswith("cannot be decoded: ")
    assert reasons["float_loud.wav"] == reasons["float_nan.wav"] == "has samples outside -1..1)"
    assert (reasons["silent.wav"], reasons["cover.png"]) == ("empty)", "not .wav or .flac)")
    assert reasons["link.wav"] == "not a regular file)"
    write(tmp_path / "long.wav", [0.25] * 200)
    small = "--d-model 16 --layers 1 --heads 2 --batch 1 --ctx 2 --frame 4 --steps 1 --threads 1 --no-save"
    flags = [*small.split(), "--backend", "torch", "--device", "cpu", "--audio-data", str(tmp_path)]
    assert entry.main("a test", flags, kind=AudioTask) == 0
    shown = capsys.readouterr().err
    assert "skipped corrupt.wav (cannot be decoded" in shown
    assert "skipped silent.wav (empty)" in shown


def test_a_file_is_its_samples_whatever_holds_them(tmp_path: Path) -> None:
    samples = [0.5, -0.25, 0.125] * 20
    for name in ("a.wav", "b.flac", "c.aiff"):
        write(tmp_path / name, samples)
    first, second, third = (load_sound(str(tmp_path / name)) for name in ("a.wav", "b.flac", "c.aiff"))
    assert whole(first) == samples
    assert first.sha256 == second.sha256 == third.sha256
    assert (first.name, len(first.valid), first.rate) == ("a.wav", 6, 8000)


def test_nothing_is_left(tmp_path: Path) -> None:
    """Each refusal says what was found."""
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="found nothing, expected a file or a folder"):
        load_sound(tmp_path / "gone")
    with pytest.raises(ValueError, match="found nothing, expected a file or a folder"):
        load_sound("")
    with pytest.raises(ValueError, match="found no sound; skipped: nothing, it is empty"):
        load_sound(tmp_path / "none")
    (tmp_path / "corrupt.wav").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"found no sound; skipped: corrupt\.wav \(cannot be decoded"):
        load_sound(tmp_path / "corrupt.wav")
    for number in range(7):
        (tmp_path / f"{number}.txt").touch()
    with pytest.raises(ValueError, match=r"and 3 more$"):
        load_sound(tmp_path)


def test_one_rate(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", [0.5] * 9, 8000)
    write(tmp_path / "b.wav", [0.5] * 9, 16000)
    with pytest.raises(ValueError, match=r"b\.wav has 16000 samples a second and a\.wav has 8000"):
        load_sound(tmp_path)


def task_on(train: list[float], valid: list[float] | None = None, **options: Any) -> AudioTask:
    """Two frames of two samples, and the next: six samples."""
    first, second = np.array(train, dtype=np.float32), np.array(valid or train, dtype=np.float32)
    shape = {"ctx": 2, "frame": 2, "batch": 3}
    return AudioTask(Sound("a test", first, second, 8000, "0"), Options(**shape | options))


@pytest.mark.clause("ARB-MODEL-006")
def test_targets_are_the_codes_of_the_next_frame() -> None:
    """Six samples have one window; the model is given the first four and the codes are of the last four."""
    samples = [0.0, 1 / 255, -1 / 17, 1.0, -1.0, 3 / 255]
    waveform, codes = task_on(samples, batch=1).batch(0)
    assert waveform.tolist() == torch.tensor([samples[:4]]).tolist()
    assert codes.tolist() == [[[64, 255], [0, 159]]]
    assert (waveform.dtype, codes.dtype) == (torch.float32, torch.int64)


@pytest.mark.clause("ARB-TRAIN-002")
def test_batches_are_of_seed_and_step() -> None:
    train = (np.arange(400) / 400).tolist()
    task, again, other = task_on(train), task_on(train), task_on(train, seed=1)
    found = [task.batch(step)[0].tolist() for step in range(4)]
    assert found == [again.batch(step)[0].tolist() for step in (3, 2, 1, 0)][::-1]
    assert len({str(batch) for batch in found}) == 4
    assert other.batch(0)[0].tolist() != found[0]
    for waveform, codes in map(task.batch, range(4)):
        steps = (waveform * 400).round()
        assert bool((steps.diff() == 1).all()), "a window is of one piece"
        assert torch.equal(codes, mu_law((steps[:, :, None] + 2) / 400).reshape(3, 2, 2))
    starts = {int(row[0] * 400 + 0.5) for step in range(600) for row in task.batch(step)[0]}
    assert (min(starts), max(starts)) == (0, 394), "every place, also the last"


def test_validation_is_from_its_own_part() -> None:
    """Evenly spaced, from the first place to the last, the same for every seed."""
    train, valid = [0.0] * 20, (np.arange(100) / 100).tolist()
    found = list(task_on(train, valid, eval_batches=2).valid())
    starts = [round(float(row[0]) * 100) for waveform, _ in found for row in waveform]
    assert starts == [0, 18, 37, 56, 75, 94]
    other = list(task_on(train, valid, eval_batches=2, seed=5).valid())
    assert all(
        torch.equal(a, b)
        for one, two in zip(found, other, strict=True)
        for a, b in zip(one, two, strict=True)
    )


@pytest.mark.clause("ARB-TRAIN-003")
def test_the_guess_and_the_loss_by_hand() -> None:
    """Codes of which a half, a quarter and a quarter are equal: 1.5 ln 2. Even logits: ln 256."""
    task = task_on([0.0, 0.0, 1.0, -1.0] * 10, batch=2)
    assert abs(task.guess - 1.5 * math.log(2)) < 1e-12
    assert (task.unit, task.guess_name, task.items) == ("nats a code", "unigram entropy", 8)
    assert (dict(task.shape), dict(task.flags)) == ({"frame": 2}, {"enable_audio": True})

    class Even:
        def audio(self, waveform: torch.Tensor) -> torch.Tensor:
            assert waveform.shape == (2, 4)
            return torch.zeros(2, 2, 2, 256)

    losses = [float(task.loss(Even(), task.batch(0), parts, False)) for parts in (1, 2, 4)]  # type: ignore[arg-type]
    assert abs(losses[0] - math.log(256)) < 1e-6
    assert losses == [losses[0], losses[0] / 2, losses[0] / 4]


def test_too_short() -> None:
    for train, valid in ((5, 6), (6, 5)):
        sizes = (
            f"found {train} samples for training and {valid} for validation, 2 frames of 2 and the next need"
        )
        with pytest.raises(ValueError, match=f"{sizes} at least 6"):
            task_on([0.0] * train, [0.0] * valid)
