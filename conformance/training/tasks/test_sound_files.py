"""Files of sound: what is decoded and what is left out."""

from __future__ import annotations

import hashlib
import math
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from arbitor.conformance.training.tasks.entries import samples_claimed
from arbitor.conformance.training.tasks.entries import sound as sound_bytes

pytest.importorskip("soundfile", reason="decodes sound files")

import soundfile
from hypothesis import given
from hypothesis import strategies as st

from arbitor.training.commands import Command
from arbitor.training.settings.flags import parse
from arbitor.training.tasks import sound
from arbitor.training.tasks.flac import claim_of
from arbitor.training.tasks.opening import Reading
from arbitor.training.tasks.sound import Sound, load_sound, melody

ID3 = b"ID3\4\0\0\0\0\1\5" + b"\0" * 133  # a tag of 10 + 133 bytes, 7 bits a byte of its size
MELODY_SHA256 = "fb3d7b5c41bcd417c173c6bd0382c873336437f0173334cff8bc2ffed72b59d7"


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
        parse("a trainer", ["--help"], "audio")
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
    (tmp_path / "link.wav").symlink_to("b.flac")  # of that name it is the same file a second time
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
    assert set(reasons) == wav | {"cover.png", "cut.flac", "empty.flac", ".hidden/"}
    for name in ("corrupt.wav", "cut.flac"):
        assert reasons[name].startswith("cannot be decoded: ")
    assert reasons["float_loud.wav"] == reasons["float_nan.wav"] == "has samples outside -1..1)"
    assert (reasons["silent.wav"], reasons["cover.png"]) == ("has no samples)", "not .wav or .flac)")
    assert (reasons["link.wav"], reasons["empty.flac"]) == ("the same file as b.flac)", "empty)")
    write(tmp_path / "long.wav", [0.25] * 200)
    small = "--d-model 16 --layers 1 --heads 2 --batch 1 --ctx 2 --frame 4 --steps 1 --threads 1 --no-save"
    flags = [*small.split(), "--backend", "torch", "--device", "cpu", "--audio-data", str(tmp_path)]
    assert Command("a test", "audio").main(flags) == 0
    shown = capsys.readouterr().err
    assert "skipped corrupt.wav (cannot be decoded" in shown
    assert "skipped silent.wav (has no samples)" in shown


def test_a_file_is_its_samples_whatever_holds_them(tmp_path: Path) -> None:
    samples = [0.5, -0.25, 0.125] * 20
    for name in ("a.wav", "b.flac", "c.aiff"):
        write(tmp_path / name, samples)
    first, second, third = (load_sound(str(tmp_path / name)) for name in ("a.wav", "b.flac", "c.aiff"))
    assert whole(first) == samples
    assert first.sha256 == second.sha256 == third.sha256
    assert (first.name, len(first.valid), first.rate) == ("a.wav", 6, 8000)


@pytest.mark.clause("ARB-MODEL-006")
@pytest.mark.parametrize("tags", [b"", ID3], ids=["bare", "tag"])
@pytest.mark.parametrize("claim", [0, 2000, 1999, 3, 2001, 2**31, 2**36 - 1])
def test_a_claimed_length_is_only_a_claim(tmp_path: Path, claim: int, tags: bytes) -> None:
    """Of a FLAC of 2,000 samples: 0 is unknown and legal; more or fewer than there are is a file that was
    torn or changed; nothing is cut and no memory is taken because a header says so."""
    data = tags + samples_claimed(claim)
    assert claim_of(BytesIO(ID3 + data)) == (len(ID3 + tags) + 21, claim)
    (tmp_path / "a.flac").write_bytes(data)
    if claim in (0, 2000):
        (tmp_path / "b.flac").write_bytes(sound_bytes(3))
        assert whole(load_sound(tmp_path)) == whole(load_sound(tmp_path / "b.flac")) * 2
    else:
        with pytest.raises(ValueError, match=rf"a\.flac \(claims {claim:,} samples and has 2,000\)$"):
            load_sound(tmp_path)


@pytest.mark.clause("ARB-MODEL-006")
def test_blocks_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is the same samples whatever is decoded at a time, also in stereo."""
    left = np.arange(-500, 500) / 512
    write(tmp_path / "a.wav", np.stack([left, left[::-1] / 4], axis=1))
    once = whole(load_sound(tmp_path / "a.wav"))
    assert once == ((left + left[::-1] / 4) / 2).tolist()
    for block in (1, 2, 7, 1000, 1999, 2000, 2001):
        monkeypatch.setattr(sound, "BLOCK", block)
        assert whole(load_sound(tmp_path / "a.wav")) == once
    monkeypatch.setattr(sound, "BLOCK", 7)
    write(tmp_path / "float_loud.wav", [*[0.5] * 1999, 1.5])
    with pytest.raises(ValueError, match=r"float_loud\.wav \(has samples outside -1\.\.1\)"):
        load_sound(tmp_path / "float_loud.wav")


@pytest.mark.parametrize("ending", ["flac", "wav", "ogg"])
def test_flipped_and_missing_bytes(ending: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any file that was one: it is read, or left out with a reason that names it."""
    path = tmp_path_factory.mktemp("damaged") / f"a.{ending}"
    soundfile.write(path, np.sin(np.arange(3000) / 9) / 2, 8000)
    intact = path.read_bytes()

    @given(st.integers(0, len(intact) - 1), st.integers(1, 255), st.integers(1, len(intact)))
    def damage(place: int, change: int, length: int) -> None:
        flipped = bytearray(intact)
        flipped[place] ^= change
        for data in (bytes(flipped), intact[:length]):
            path.write_bytes(data)
            reading = Reading(path)
            found = reading.read(path, partial(sound._decode, reading=reading))
            assert len(found[0]) if found else reading.skipped[0].startswith(f"a.{ending} (")

    damage()


def test_nothing_is_left(tmp_path: Path) -> None:
    """Each refusal says what was found."""
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="found nothing, expected a file or a folder"):
        load_sound(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"found nothing: .* empty string, expected a file or a folder"):
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
