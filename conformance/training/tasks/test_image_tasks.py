"""The tasks on images: batches, losses, runs that go on, and samples of a diffusion."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arbitor.between.exact import ExactWork
from arbitor.main import ARBConfig, ARBModel
from arbitor.modalities import NO_LABEL, ImageShape, signal_share
from arbitor.training import loop, options
from arbitor.training.commands import Command
from arbitor.training.recording.run_folder import RunFolder
from arbitor.training.settings import flags as commandline
from arbitor.training.tasks import denoising as noise
from arbitor.training.tasks import images as data
from arbitor.training.tasks.image_tasks import VisionTask

pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
Image = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {"batch": 5, "d_model": 16, "heads": 2, "layers": 1, "times": 6}


def made(task: Any, **changes: Any) -> Any:
    """A task on the digits."""
    return task(data.load_images(), options.Options(**(SMALL | changes)))


def ramp(count: int = 9, channels: int = 1, side: int = 4) -> Any:
    """Images [count, channels, side, side] of numbers that are all different, labels of three classes."""
    pixels = np.arange(count * channels * side * side, dtype=np.float32).reshape(count, channels, side, side)
    return data.Part(pixels, np.arange(count) % 3)


# -- batches


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize("task", [VisionTask, noise.DiffusionTask])
def test_batches_are_a_function_of_seed_and_step(task: Any) -> None:
    """And differ between steps, and between seeds; so do the noise and the times."""
    one, two, other = made(task), made(task), made(task, seed=1)
    for step in (0, 1, 7):
        assert all(torch.equal(a, b) for a, b in zip(one.batch(step), two.batch(step), strict=True))
        assert not torch.equal(one.batch(step)[0], one.batch(step + 1)[0])
        assert not torch.equal(one.batch(step)[0], other.batch(step)[0])
    if task is not VisionTask:
        times = torch.cat([one.batch(step)[2] for step in range(60)])
        assert set(times.tolist()) == set(range(6))
        assert not torch.equal(times, torch.cat([other.batch(step)[2] for step in range(60)]))


def test_labels_stay_with_their_images() -> None:
    part = ramp()
    images, labels = data.draw_images(part, 64, 3, 5, augment=False)
    assert images.shape == (64, 1, 4, 4)
    numbers = (images[:, 0, 0, 0] / 16).astype(np.int64)
    assert np.array_equal(labels, part.labels[numbers])
    assert set(numbers.tolist()) == set(range(9))
    moved, same = data.draw_images(part, 64, 3, 5, augment=True)
    assert np.array_equal(same, labels), "augmentation changes no choice and no label"
    assert (moved.shape, moved.dtype) == (images.shape, images.dtype)
    assert not np.array_equal(moved, images)


def test_shifts_by_hand() -> None:
    image = np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3).repeat(3, axis=0)
    dy, dx = np.array([0, 1, -1]), np.array([0, 0, 1])
    assert data.shifted(image, dy, dx)[:, 0].tolist() == [
        [[0, 1, 2], [3, 4, 5], [6, 7, 8]],
        [[0, 1, 2], [0, 1, 2], [3, 4, 5]],
        [[3, 3, 4], [6, 6, 7], [6, 6, 7]],
    ]


@pytest.mark.clause("ARB-MODEL-007")
def test_noised_images_keep_their_share() -> None:
    """The mixture is the one of its time; one label in ten is none, and only in training."""
    task = made(noise.DiffusionTask, batch=400)
    clean, mixture, times, labels = task.batch(3)
    share = signal_share(6)[times]
    drawn = (mixture.double() - share.sqrt()[:, None, None, None] * clean) / (1 - share).sqrt()[
        :, None, None, None
    ]
    assert abs(float(drawn.mean())) < 0.03
    assert abs(float(drawn.var()) - 1) < 0.03
    assert 20 < int((labels == NO_LABEL).sum()) < 60
    assert set(labels.tolist()) == {NO_LABEL, *range(10)}
    once, again = list(task.valid()), list(task.valid())
    assert all(torch.equal(a, b) for a, b in zip(once[0], again[0], strict=True))
    assert int(torch.cat([batch[3] for batch in once]).min()) == 0


@pytest.mark.parametrize("task", [VisionTask, noise.DiffusionTask])
def test_validation_is_the_whole_part_in_any_batch_size(task: Any) -> None:
    for batch in (5, 700):
        found = torch.cat([batch[0] for batch in made(task, batch=batch).valid()])
        assert torch.equal(found, torch.from_numpy(data.load_images().valid.images))
    assert sum(len(batch[0]) for batch in made(task, eval_batches=1).valid()) == 180


# -- losses


@pytest.mark.clause("ARB-TRAIN-003")
def test_guesses_by_hand() -> None:
    labels = np.array([0, 0, 1, 2])
    assert data.class_entropy(labels) == pytest.approx(1.5 * math.log(2), abs=1e-15)
    images = np.array([[0, 1], [2, 1], [4, 1]], dtype=np.float32).reshape(3, 1, 1, 2)
    assert data.pixel_variance(images) == (8 / 3 + 0) / 2
    task = made(noise.DiffusionTask)
    train = torch.from_numpy(task.data.train.images)
    assert float((train - train.mean(0)).square().mean()) == pytest.approx(task.guess, rel=1e-5)


class Canned:
    """Says what it is told, as a model would."""

    def __init__(self, classes: torch.Tensor, patches: torch.Tensor) -> None:
        self.said, self.work = (classes, patches), ExactWork("torch")

    def vision(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.said


@pytest.mark.clause("ARB-MODEL-005", "ARB-TRAIN-003")
def test_the_loss_of_vision_by_hand() -> None:
    """Even logits cost ln 10; patches that miss by 2 cost 0.1 * 4; half the share in two microbatches."""
    task = made(VisionTask)
    images, labels = task.batch(0)
    after = ImageShape().patches(images)[:, 1:]
    assert float(
        task.loss(Canned(torch.zeros(5, 10), after + 2), (images, labels), 1, False)
    ) == pytest.approx(math.log(10) + 0.4)
    sure = torch.nn.functional.one_hot(labels, 10).float() * 100
    model = Canned(sure, after + 2)
    assert float(task.loss(model, (images, labels), 2, False)) == pytest.approx(0.2)
    assert task.measure(model, (images, labels)) == {"accuracy": (5, 5)}
    sure[:2] = -sure[:2]
    assert task.measure(model, (images, labels)) == {"accuracy": (3, 5)}


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize("task", [VisionTask, noise.DiffusionTask])
def test_a_resumed_run_on_images(task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after step 2 it goes on to the state of a run that was not."""
    monkeypatch.setattr(RunFolder, "plot", lambda *_: None)
    flags = "--d-model 16 --heads 2 --layers 1 --batch 2 --accum-threshold 2 --eval-batches 1 --steps 4"
    kind = "images" if task is VisionTask else "diffusion"
    call = [*flags.split(), *(["--times", "4"] if kind == "diffusion" else []), "--runs", str(tmp_path)]

    def run(*more: str) -> Any:
        made_options = commandline.parse("a test", [*call, *more], kind).options
        return loop.train(made_options, task.of(made_options))

    whole = run("--run", "whole")
    honest = loop.Trainer._after_step

    def stop(trainer: Any, progress: Any) -> None:
        honest(trainer, progress)
        if trainer.done == 2:
            trainer.save()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "_after_step", stop)
        with pytest.raises(KeyboardInterrupt):
            run("--run", "parted")
    resumed = run("--run", "parted", "--resume")
    assert (resumed.digest, resumed.valid[-1]) == (whole.digest, whole.valid[-1])


# -- samples


@pytest.mark.clause("ARB-MODEL-007")
@pytest.mark.parametrize("times", [1, 2, 16])
def test_ddim_of_a_perfect_denoiser_is_the_image(times: int) -> None:
    """It is asked at every time, from the last to the first, about the mixture that belongs to it."""
    image, start = torch.rand(3, 1, 4, 4) * 2 - 1, torch.randn(3, 1, 4, 4)
    seen: list[tuple[int, torch.Tensor]] = []

    def denoise(x: torch.Tensor, now: torch.Tensor) -> torch.Tensor:
        seen.append((int(now[0]), x))
        return image

    assert torch.equal(noise.ddim(denoise, start, times), image)
    assert [time for time, _ in seen] == list(range(times - 1, -1, -1))
    share = signal_share(times)
    first = (start - share[-1].sqrt() * image) / (1 - share[-1]).sqrt()  # the noise that it takes x to hold
    for time, x in seen[1:]:
        mixture = noise.noised(image, first.float(), share[time].expand(3))
        assert float((x - mixture).abs().max()) < 1e-4
    assert float(noise.ddim(lambda x, _: x + 5, start, times).max()) == 1


@pytest.mark.clause("ARB-MODEL-007")
def test_samples_are_drawn_by_class_and_always_the_same(tmp_path: Path) -> None:
    config = ARBConfig(16, 1, 2, image=ImageShape(classes=3), times=4)
    model = ARBModel(config, backend="torch", enable_diffusion=True)
    samples = noise.draw_samples(model, 2)
    assert samples.shape == (6, 1, 8, 8)
    assert torch.equal(samples, noise.draw_samples(model, 2))
    assert float(samples.abs().max()) <= 1
    noise.write_grid(samples, 2, tmp_path / "new" / "grid.png")
    with Image.open(tmp_path / "new" / "grid.png") as picture:
        pixels = np.asarray(picture).astype(np.int64)
    assert pixels.shape == (3 * 9 * 4, 2 * 9 * 4)
    second = ((samples[3, 0] + 1) * 127.5).round().long().numpy()  # row 1, column 1
    assert np.array_equal(pixels[36:68:4, 36:68:4], second)


@pytest.mark.clause("ARB-MODEL-007")
def test_samples_need_no_saved_run(tmp_path: Path) -> None:
    """--samples names a file of its own; without it a run that saves nothing draws nothing."""
    size = [
        "--d-model",
        "16",
        "--layers",
        "1",
        "--heads",
        "2",
        "--batch",
        "2",
        "--steps",
        "1",
        "--times",
        "2",
    ]
    flags = [
        *size,
        "--threads",
        "1",
        "--no-save",
        "--backend",
        "torch",
        "--device",
        "cpu",
        "--runs",
        str(tmp_path / "runs"),
    ]
    assert Command("a test", "diffusion").main([*flags, "--samples", str(tmp_path / "s.png")]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["s.png"]
