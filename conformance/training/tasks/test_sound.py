"""Sound: the mu-law and frames by hand, and batches that (seed, step) alone decide."""

from __future__ import annotations

import math
from decimal import ROUND_FLOOR, Decimal, localcontext
from typing import Any

import numpy as np
import pytest
import torch

from arbitor.between.exact import ExactWork
from arbitor.modalities import frames, from_mu_law, mu_law
from arbitor.training.options import Options
from arbitor.training.tasks.sound import AudioTask, Sound

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


# codes that a logarithm in float32 misses by one
MISSED_BY_FLOAT32 = {0.5304230451583862: 240, -0.5304230451583862: 15}


@pytest.mark.clause("ARB-MODEL-006")
def test_mu_law_at_the_ends_of_every_code() -> None:
    """The two float32 samples between which each code ends, by the clause in 50 decimal digits."""

    half = Decimal("0.5")

    def exact(sample: float) -> int:
        size = (1 + 255 * abs(Decimal(sample))).ln() / Decimal(256).ln()
        return int(((size.copy_sign(Decimal(sample)) + 1) * half * 255 + half).to_integral_value(ROUND_FLOOR))

    samples = list(MISSED_BY_FLOAT32)
    with localcontext() as context:
        context.prec = 50
        for code in {*range(1, 256)} - {128}:  # which begins at 0, and is that of smaller ones than 1e-18
            share = abs(2 * code - 256) / 255  # of ln 256 where this code begins
            end = np.float32(math.copysign((256**share - 1) / 255, code - 128))
            around = np.nextafter(end, np.float32(-2)), end, np.nextafter(end, np.float32(2))
            samples += map(float, around)
        expected = [exact(sample) for sample in samples]
    assert expected[:2] == list(MISSED_BY_FLOAT32.values())
    assert mu_law(torch.tensor(samples, dtype=torch.float32)).tolist() == expected
    assert mu_law(torch.tensor(samples, dtype=torch.float64)).tolist() == expected
    ends = torch.tensor(expected[2:]).reshape(254, 3)
    assert (ends[:, 2] - ends[:, 0]).tolist() == [1] * 254


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
        work = ExactWork("torch")

        def audio(self, waveform: torch.Tensor) -> torch.Tensor:
            assert waveform.shape == (2, 4)
            return torch.zeros(2, 2, 2, 256)

    losses = [float(task.loss(Even(), task.batch(0), parts, False)) for parts in (1, 2, 4)]  # type: ignore[arg-type]
    assert abs(losses[0] - math.log(256)) < 2e-6
    assert losses == [losses[0], losses[0] / 2, losses[0] / 4]


def test_too_short() -> None:
    for train, valid in ((5, 6), (6, 5)):
        sizes = (
            f"found {train} samples for training and {valid} for validation, 2 frames of 2 and the next need"
        )
        with pytest.raises(ValueError, match=f"{sizes} at least 6"):
            task_on([0.0] * train, [0.0] * valid)
