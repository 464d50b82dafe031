"""Images: their patches, the data that the trainers read, their two tasks, and samples of a diffusion."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arbitor.conformance.trainers import threads_kept
from arbitor.main import ARBConfig, ARBModel
from arbitor.modalities import ImageShape, signal_share

data = pytest.importorskip("training.images", reason="the trainers do not ship")
noise = pytest.importorskip("training.denoising")
VisionTask = pytest.importorskip("training.image_tasks").VisionTask
options = pytest.importorskip("training.options")
entry = pytest.importorskip("training.entry")
loop = pytest.importorskip("training.loop")
pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
Image = pytest.importorskip("PIL.Image")

SMALL = {"batch": 5, "d_model": 16, "heads": 2, "layers": 1, "times": 6}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threads_kept():
        torch.set_num_threads(1)
        yield


def made(task: Any, **changes: Any) -> Any:
    """A task on the digits."""
    return task(data.load_images(), options.Options(**(SMALL | changes)))


def ramp(count: int = 9, channels: int = 1, side: int = 4) -> Any:
    """Images [count, channels, side, side] of numbers that are all different, labels of three classes."""
    pixels = np.arange(count * channels * side * side, dtype=np.float32).reshape(count, channels, side, side)
    return data.Part(pixels, np.arange(count) % 3)


# -- patches


@pytest.mark.clause("ARB-MODEL-005")
def test_patches_by_hand() -> None:
    """Row order of patches; channel, row, column inside one."""
    shape = ImageShape(side=4, channels=2, patch=2, classes=2)
    image = torch.arange(32).reshape(1, 2, 4, 4)
    assert shape.patches(image).tolist() == [
        [
            [0, 1, 4, 5, 16, 17, 20, 21],
            [2, 3, 6, 7, 18, 19, 22, 23],
            [8, 9, 12, 13, 24, 25, 28, 29],
            [10, 11, 14, 15, 26, 27, 30, 31],
        ]
    ]


@pytest.mark.clause("ARB-MODEL-005", "ARB-MODEL-007")
@pytest.mark.parametrize(("side", "channels", "patch"), [(8, 1, 2), (6, 3, 3), (4, 2, 4), (3, 1, 1)])
def test_patches_and_back(side: int, channels: int, patch: int) -> None:
    shape = ImageShape(side, channels, patch)
    images = torch.arange(2 * channels * side * side).reshape(2, channels, side, side)
    patches = shape.patches(images)
    assert patches.shape == (2, shape.count, shape.width)
    assert torch.equal(shape.images(patches), images)


# -- data


@pytest.mark.clause("ARB-TRAIN-002")
def test_the_digits_are_split_the_same_way_every_time() -> None:
    """Every image of scikit-learn is in one part, once, with its label; classes are in both."""
    from sklearn.datasets import load_digits

    first, again = data.load_images(), data.load_images()
    assert first.sha256 == again.sha256 == "314b97e8b73b7a469ab137a8e1c41298c092513ab5645ba0ad0efb54b9367ab7"
    for part, other in ((first.train, again.train), (first.valid, again.valid)):
        assert np.array_equal(part.images, other.images)
        assert np.array_equal(part.labels, other.labels)
        assert part.images.dtype == np.float32
        assert set(part.labels.tolist()) == set(range(10))
    assert (len(first.train), len(first.valid)) == (1437, 360)
    pixels = np.concatenate([first.train.images, first.valid.images]).reshape(-1, 64)
    assert (pixels.min(), pixels.max()) == (-1, 1)
    labels = np.concatenate([first.train.labels, first.valid.labels])
    found = sorted(
        [*row, label] for row, label in zip((8 * (pixels + 1)).tolist(), labels.tolist(), strict=True)
    )
    source = load_digits()
    truth = zip(source.data.tolist(), source.target.tolist(), strict=True)
    assert found == sorted([*row, label] for row, label in truth)


@pytest.mark.parametrize("shape", [(16, 1), (8, 3)])
def test_digits_have_one_shape(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="digits are 8 x 8 in 1 channel"):
        data.load_images(None, *shape)


def folder_of(root: Path, classes: int = 2, each: int = 4) -> Path:
    """Plain images of 4 x 4, of a grey that is the class's, and every second one in RGB."""
    for label in range(classes):
        place = root / f"class{label:02d}"
        place.mkdir(parents=True)
        for number in range(each):
            grey = Image.new("L", (4, 4), 8 * label)
            (grey.convert("RGB") if number % 2 else grey).save(place / f"{number}.png")
    return root


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_of_images(tmp_path: Path, channels: int) -> None:
    """Classes in the order of their names; values of 0..255 become -1..1; sides are scaled."""
    found = data.load_images(folder_of(tmp_path / "grey", 3), 6, channels)
    assert (found.name, found.classes) == ("grey", ("class00", "class01", "class02"))
    assert (len(found.train), len(found.valid)) == (9, 3)
    for part in (found.train, found.valid):
        assert part.images.shape[1:] == (channels, 6, 6)
        assert part.images.dtype == np.float32
        grey = part.labels.astype(np.float32) * 8 / np.float32(127.5) - 1
        assert np.array_equal(part.images, np.broadcast_to(grey[:, None, None, None], part.images.shape))


def test_what_cannot_be_read_is_named_and_skipped(tmp_path: Path) -> None:
    root = folder_of(tmp_path)
    whole = (root / "class00" / "0.png").read_bytes()
    (root / "class00" / "empty.png").touch()
    (root / "class00" / "notes.txt").write_text("no image")
    (root / "class01" / "torn.png").write_bytes(whole[: len(whole) // 2])
    (root / "class02").mkdir()
    (root / "class02" / "empty.png").touch()
    found = data.load_images(root)
    assert len(found.train) + len(found.valid) == 8
    assert found.classes == ("class00", "class01")
    names = [skipped.split(" (")[0] for skipped in found.skipped]
    assert names == ["class00/empty.png", "class00/notes.txt", "class01/torn.png", "class02/empty.png"]
    assert found.skipped[0] == "class00/empty.png (empty)"
    assert all(len(line.splitlines()) == 1 and str(tmp_path) not in line for line in found.skipped)


@pytest.mark.parametrize(
    ("classes", "found"), [(0, "0 images in 0"), (1, "4 images in 1"), (32, "128 images in 32")]
)
def test_too_few_and_too_many_classes(
    tmp_path: Path, classes: int, found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder_of(tmp_path / "images", classes) if classes else tmp_path
    flags = ["--no-save", "--steps", "1", "--image-data", str(root)]
    assert entry.main("a test", flags, kind=VisionTask) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert f"found {found} sub-folders, expected 2 to 31" in error[0]


def test_a_source_that_is_no_folder(tmp_path: Path) -> None:
    for source in ("", tmp_path / "nothing"):
        with pytest.raises(ValueError, match="expected a folder with one sub-folder a class"):
            data.load_images(source)


BAD = {
    "--image-side 0": "--image-side must be at least 1",
    "--image-side 16": "the digits are 8 x 8 in 1 channel, got 16 x 16 in 1",
    "--image-channels 2": "invalid choice: 2",
    "--patch 3": "side must be a multiple of patch",
    "--times 0": "--times must be at least 1",
    "--samples .": "--samples . is a folder, expected a file",
    "--image-data nowhere": "images 'nowhere': expected a folder with one sub-folder a class",
    "--batch 8000": "an update is of at most 131071 tokens, got 144000",
}


@pytest.mark.parametrize("flags", BAD)
def test_bad_flags(flags: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2 and one sentence."""
    call = ["--no-save", "--steps", "1", "--d-model", "16", *flags.split()]
    try:
        status = entry.main("a test", call, kind=noise.DiffusionTask)
    except SystemExit as left:
        status = left.code
    assert status == 2
    assert BAD[flags] in capsys.readouterr().err.strip().splitlines()[-1]


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
    assert 20 < int((labels == noise.NO_LABEL).sum()) < 60
    assert set(labels.tolist()) == {noise.NO_LABEL, *range(10)}
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
        self.said = classes, patches

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
    assert task.measure(model, (images, labels)) == {"accuracy": 1.0}
    sure[:2] = -sure[:2]
    assert task.measure(model, (images, labels)) == {"accuracy": 3 / 5}


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize("task", [VisionTask, noise.DiffusionTask])
def test_a_resumed_run_on_images(task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after step 2 it goes on to the state of a run that was not."""
    monkeypatch.setattr(loop.RunFolder, "plot", lambda *_: None)
    flags = "--d-model 16 --heads 2 --layers 1 --batch 2 --accum-threshold 2 --eval-batches 1 --steps 4"
    kind = "images" if task is VisionTask else "diffusion"
    call = [*flags.split(), *(["--times", "4"] if kind == "diffusion" else []), "--runs", str(tmp_path)]

    def run(*more: str) -> Any:
        made_options = options.parse("a test", [*call, *more], kind)
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
    assert entry.main("a test", [*flags, "--samples", str(tmp_path / "s.png")], kind=noise.DiffusionTask) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["s.png"]
