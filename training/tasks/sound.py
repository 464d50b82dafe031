"""Sound: what `training/audio.py` reads, and the task of predicting the next frame of it.

A sound file or a folder of WAV and FLAC (decoded by soundfile, channels averaged) is a corpus; a file that
cannot be decoded, is empty or holds samples outside -1..1 is left out and named. Files must agree in their
rate: nothing is resampled, and a mix would be two data sets under one name. Without a source it is a melody
that is **synthesised** here: 60 s at 8 kHz of plucked tones one after another, decaying sums of four
harmonics, with a little noise, drawn with a fixed seed. It is no recording; it is there so that a first run
needs no file and has something to learn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch

from arbitor.main import ARBModel
from arbitor.modalities import frames, mu_law

from ..options import Options
from .corpus import draw_places, even_places, unigram_entropy
from .flac import Unclaimed, claim_of
from .opening import FILE, FOLDER, LeftOut, Reading, look, shown
from .task import Batch, Task, mean_cross_entropy

Samples = npt.NDArray[np.float32]

SUFFIXES = (".wav", ".flac")  # read in a folder; a single file is whatever soundfile decodes
BLOCK = 1 << 20  # samples of all channels that are decoded at a time
MELODY_RATE, MELODY_SECONDS, MELODY_SEED = 8000, 60, 1
NOTE = 2000  # samples
HARMONICS = 4
NOISE = 0.002
SCALE = (0, 3, 5, 7, 10, 12)  # an octave of A minor pentatonic from 220 Hz, in semitones


@dataclass(frozen=True)
class Sound:
    """Mono samples float32 in -1..1: the first 90 % to train on, the last 10 % to validate on. ``sha256`` is
    that of all samples, little-endian; ``skipped`` names each file that was left out, with the reason;
    ``notes`` are sentences about what was read."""

    name: str
    train: Samples
    valid: Samples
    rate: int
    sha256: str
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def load_sound(source: str | Path | None = None) -> Sound:
    """The sound that ``source`` names: None, a file, or a folder; files are joined in the order of their
    paths.

    Raises ValueError if there is nothing to read, for a file of another rate than the first, and where
    soundfile is not installed.
    """
    if source is None:
        return _split(f"synthesised-melody-{MELODY_SECONDS}s", melody(), MELODY_RATE)
    found = look(source)
    if found not in (FILE, FOLDER):
        raise ValueError(f"sound '{shown(source)}': found {found}, expected {FILE} or {FOLDER}")
    _need_soundfile()
    reading = Reading(Path(source))
    parts: list[Samples] = []
    rates: dict[int, str] = {}
    for file in reading.files():
        if found == FOLDER and file.suffix.lower() not in SUFFIXES:
            reading.leave_out(file, f"not {' or '.join(SUFFIXES)}")
            continue
        read = reading.read(file, lambda opened: _decode(opened, reading))
        if read is None:
            continue
        samples, rate = read
        rates.setdefault(rate, reading.name(file))
        if len(rates) > 1:
            first, other = rates
            raise ValueError(
                f"sound '{shown(source)}': {rates[other]} has {other} samples a second and {rates[first]} "
                f"has {first}, expected one rate"
            )
        parts.append(samples)
    if not parts:
        raise reading.nothing("sound", "sound")
    samples, rate = np.concatenate(parts), next(iter(rates))
    return _split(reading.title, samples, rate, reading.skipped, reading.notes)


def _split(
    name: str, samples: Samples, rate: int, skipped: tuple[str, ...] = (), notes: tuple[str, ...] = ()
) -> Sound:
    cut = len(samples) - len(samples) // 10
    digest = hashlib.sha256(samples.astype("<f4").tobytes()).hexdigest()
    return Sound(name, samples[:cut], samples[cut:], rate, digest, skipped, notes)


def _need_soundfile() -> None:
    try:
        import soundfile  # noqa: F401
    except (ImportError, OSError) as error:  # OSError: its library is not there
        raise ValueError(
            f"sound files need soundfile, which does not work: {shown(error)}; pip install soundfile"
        ) from error


def _decode(file: BinaryIO, reading: Reading) -> tuple[Samples, int]:
    """Mono samples and their rate, block by block: how many there are is only claimed until they are there.

    Raises LeftOut with the reason why a file is of no use, and whatever soundfile raises.
    """
    import soundfile

    class Stream(soundfile.SoundFile):  # type: ignore[misc]
        def seekable(self) -> bool:
            """Or each block ends in a seek to where it is, which fails at the end of a FLAC of no claim."""
            return False

    parts: list[Samples] = []
    hidden = claim_of(file)
    source = file if hidden is None else Unclaimed(file, hidden[0])
    try:
        with Stream(source) as sound:
            kind, rate = sound.format, sound.samplerate
            claimed = sound.frames if hidden is None else hidden[1]
            largest = max(1, BLOCK // sound.channels)
            while len(block := sound.read(largest, dtype="float32", always_2d=True)):
                if not bool((np.abs(block) <= 1).all()):
                    raise LeftOut("has samples outside -1..1")
                parts.append(block.mean(axis=1, dtype=np.float64).astype(np.float32))
                reading.take(parts[-1].nbytes)
    except soundfile.LibsndfileError as error:
        raise LeftOut(f"cannot be decoded: {error.error_string}") from None
    if not parts:
        raise LeftOut("has no samples")
    samples = np.concatenate(parts)
    unknown = hidden is not None and claimed == 0
    if claimed != len(samples) and not unknown and kind != "MP3":  # whose length is an estimate
        raise LeftOut(f"claims {claimed:,} samples and has {len(samples):,}")
    return samples, int(rate)


def melody() -> Samples:
    """The default corpus: float32 [480000], multiples of 2^-15.

    Notes walk up and down the scale. Rounding to 16 bits makes the samples, and their hash, those of every
    machine, although sines differ in their last bits.
    """
    total = MELODY_RATE * MELODY_SECONDS
    words = np.random.Philox(key=MELODY_SEED).random_raw(total // NOTE + total)
    steps = (words[: total // NOTE] % np.uint64(5)).astype(np.int64) - 2
    time = np.arange(NOTE) / MELODY_RATE
    tones = []
    for semitones in SCALE:
        pitch = 220 * 2 ** (semitones / 12)
        partials = [
            np.sin(2 * np.pi * k * pitch * time) * np.exp(-(2 + k) * time) / k
            for k in range(1, HARMONICS + 1)
        ]
        # damped at its end, or the next would begin with a click
        tones.append(np.sum(partials, axis=0) * np.minimum(1, (NOTE - np.arange(NOTE)) / 100))
    places = []
    place = len(SCALE) // 2
    for step in steps.tolist():
        place = min(max(place + step, 0), len(SCALE) - 1)
        places.append(place)
    mixed = np.concatenate([tones[place] for place in places])
    mixed *= 0.9 / np.abs(mixed).max()
    noise = (words[total // NOTE :] >> np.uint64(11)).astype(np.float64) / 2**52 - 1
    return (np.round((mixed + NOISE * noise) * 2**15) / 2**15).astype(np.float32)


class AudioTask(Task):
    """The codes of the next frame of windows of a sound. Raises ValueError for a sound shorter than one."""

    kind, unit, item, guess_name = "audio", "nats a code", "codes", "unigram entropy"
    flags: ClassVar[Mapping[str, Any]] = {"enable_audio": True}

    def __init__(self, sound: Sound, options: Options) -> None:
        o, self.sound, self.options = options, sound, options
        self._length = (o.ctx + 1) * o.frame
        if min(len(sound.train), len(sound.valid)) < self._length:
            raise ValueError(
                f"sound {sound.name}: found {len(sound.train)} samples for training and {len(sound.valid)} "
                f"for validation, {o.ctx} frames of {o.frame} and the next need at least {self._length}"
            )
        self.shape = {"frame": o.frame}
        self.name, self.sha256 = sound.name, sound.sha256
        self.skipped, self.notes = sound.skipped, sound.notes
        seconds = (len(sound.train) / sound.rate, len(sound.valid) / sound.rate)
        self.size = f"{seconds[0]:.1f} + {seconds[1]:.1f} s at {sound.rate} Hz"
        codes = mu_law(torch.from_numpy(sound.train)).to(torch.uint8)
        self.guess = unigram_entropy(codes.numpy())
        self.positions = o.batch * o.ctx
        self.items = self.positions * o.frame

    @classmethod
    def of(cls, options: Options) -> Self:
        """The sound that --audio-data names."""
        return cls(load_sound(options.audio_data), options)

    def batch(self, step: int) -> Batch:
        """Windows float32 [batch, ctx * frame] and codes int64 [batch, ctx, frame], each of the next
        frame."""
        o, places = self.options, len(self.sound.train) - self._length + 1
        return self._windows(self.sound.train, draw_places(places, o.batch, o.seed, step))

    def _windows(self, samples: Samples, starts: npt.NDArray[np.int64]) -> Batch:
        # Coded here and not on the device, whose logarithm may differ in its last bit.
        o = self.options
        window = torch.from_numpy(samples[starts[:, None] + np.arange(self._length)])
        codes = mu_law(frames(window[:, o.frame :], o.frame))
        return window[:, : -o.frame], codes

    def loss(self, model: ARBModel, batch: Batch, parts: int, stateful: bool) -> torch.Tensor:
        """Cross-entropy of the next frame's codes."""
        waveform, codes = batch
        return mean_cross_entropy(model.work, model.audio(waveform), codes, parts)

    def valid(self) -> Iterable[Batch]:
        """Evenly spaced windows of the validation part."""
        o, places = self.options, len(self.sound.valid) - self._length + 1
        for starts in even_places(places, o.batch, o.eval_batches):
            yield self._windows(self.sound.valid, starts)
