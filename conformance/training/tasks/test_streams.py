"""Random numbers of the data: each stream apart from the others, validation the same in every run and whole,
samples in the order of their classes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from arbitor.main import ARBConfig, ARBModel
from arbitor.modalities import NO_LABEL, ImageShape, signal_share
from arbitor.training.loop import Trainer
from arbitor.training.options import Options
from arbitor.training.tasks import denoising
from arbitor.training.tasks.corpus import draw_places
from arbitor.training.tasks.denoising import DiffusionTask
from arbitor.training.tasks.image_tasks import VisionTask
from arbitor.training.tasks.images import ImageSet, Part, draw_images
from arbitor.training.tasks.sound import AudioTask, Sound
from arbitor.training.tasks.task import Task, TextTask

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL: dict[str, Any] = {"batch": 4, "d_model": 16, "heads": 2, "layers": 1, "times": 7, "ctx": 4, "frame": 4}


def part(count: int, classes: int = 5) -> Part:
    """Images of 2 x 2, each of its own number; labels in turn."""
    grey = np.arange(count, dtype=np.float32)[:, None, None, None] / np.float32(2048)
    return Part(np.broadcast_to(grey, (count, 1, 2, 2)).copy(), np.arange(count) % classes)


def image_set(train: int = 40, valid: int = 600) -> ImageSet:
    return ImageSet("a test", tuple("abcde"), part(train), part(valid), "0")


def task_of(kind: type[Task], **changes: Any) -> Any:
    """A task on small data of that kind."""
    options = Options(**SMALL | changes)
    if kind is TextTask:
        from arbitor.training.tasks.corpus import Corpus

        data = np.random.default_rng(0).integers(0, 256, 4000).astype(np.uint8)
        return TextTask(Corpus("a test", data[:3000], data[3000:], "0", ()), options)
    if kind is AudioTask:
        samples = (np.arange(4000) / 4000).astype(np.float32)
        return AudioTask(Sound("a test", samples[:3000], samples[3000:], 8000, "0"), options)
    return kind(image_set(), options)  # type: ignore[call-arg]


KINDS: list[type[Task]] = [TextTask, AudioTask, VisionTask, DiffusionTask]


# -- streams


def drawn(stream: str, seed: int, step: int, count: int = 16) -> list[int]:
    """The lowest 16 bits of the words of one stream."""
    if stream == "text and sound":
        return list(map(int, draw_places(2**16, count, seed, step)))
    if stream == "images":
        numbered = Part(np.arange(2**16, dtype=np.float32).reshape(-1, 1, 1, 1), np.zeros(2**16, np.int64))
        return list(map(int, draw_images(numbered, count, seed, step, augment=False)[0].ravel()))
    return [int(word) % 2**16 for word in denoising.generator(seed, step).bit_generator.random_raw(count)]


@pytest.mark.clause("ARB-TRAIN-002", "ARB-MODEL-007")
def test_streams_of_one_seed_are_independent() -> None:
    """Of all streams, seeds and steps no two share words: of 16 one may by chance, and hardly two."""
    seeds = (0, 1, 2, denoising.SAMPLE_SEED, denoising.VALID_SEED)
    keys = itertools.product(("text and sound", "images", "noise"), seeds, range(4))
    found = {key: set(drawn(*key)) for key in keys}
    shared = {pair: len(found[pair[0]] & found[pair[1]]) for pair in itertools.combinations(found, 2)}
    assert {pair for pair, count in shared.items() if count > 1} == set()


@pytest.mark.clause("ARB-TRAIN-002", "ARB-MODEL-005")
def test_an_image_says_nothing_about_its_shift() -> None:
    """With nine images and nine shifts every pair is drawn."""
    places = np.arange(9, dtype=np.float32).reshape(3, 3)
    images = np.stack([100 * number + places for number in range(9)])[:, None]
    found = draw_images(Part(images, np.arange(9)), 900, 3, 5, augment=True)[0]
    middle = found[:, 0, 1, 1].astype(np.int64)  # of image n, moved from place p: 100 n + p
    assert {(number, place) for number, place in zip(middle // 100, middle % 100, strict=True)} == set(
        itertools.product(range(9), range(9))
    )


@pytest.mark.clause("ARB-TRAIN-002", "ARB-MODEL-007")
def test_a_batch_of_diffusion_is_pinned() -> None:
    """Times, hidden labels and noise, one after another from the noise's own stream of (seed, step)."""
    for seed, step in ((0, 0), (0, 3), (5, 3)):
        task = task_of(DiffusionTask, batch=50, seed=seed)
        clean, mixture, times, labels = task.batch(step)
        random = np.random.Generator(np.random.Philox(key=seed + (2 << 64), counter=step << 128))
        assert times.tolist() == random.integers(0, 7, 50).tolist()
        hidden = random.random(50) < 0.1
        images, truth = draw_images(task.data.train, 50, seed, step, augment=False)
        assert labels.tolist() == np.where(hidden, NO_LABEL, truth).tolist()
        assert torch.equal(clean, torch.from_numpy(images))
        noise = torch.from_numpy(random.standard_normal((50, 1, 2, 2), dtype=np.float32))
        assert torch.equal(mixture, denoising.noised(clean, noise, signal_share(7)[times]))


# -- validation


@pytest.mark.clause("ARB-TRAIN-002", "ARB-MODEL-007")
@pytest.mark.parametrize("kind", KINDS)
def test_validation_follows_no_seed(kind: type[Task]) -> None:
    """Nor does it change from one time to the next, noise included."""
    first = list(task_of(kind).valid())
    for seed in (0, 1, 2**63):
        again = list(task_of(kind, seed=seed).valid())
        assert len(again) == len(first)
        for one, two in zip(first, again, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_the_seeds_of_fixed_noise_are_of_no_run() -> None:
    """A run with one of them would train on the noise of the validation, or of the samples."""
    assert task_of(DiffusionTask, seed=2**64 - 3)
    for seed in (denoising.SAMPLE_SEED, denoising.VALID_SEED):
        with pytest.raises(ValueError, match=f"--seed must be below 18446744073709551614, .* got {seed}"):
            task_of(DiffusionTask, seed=seed)


@pytest.mark.clause("ARB-MODEL-007")
def test_every_chunk_of_a_validation_goes_on() -> None:
    """Three of 200: images in order, times in turn over all of them, and noise that no two share."""
    chunks = list(task_of(DiffusionTask).valid())
    assert [len(chunk[0]) for chunk in chunks] == [200, 200, 200]
    clean, mixture, times, labels = (torch.cat(parts) for parts in zip(*chunks, strict=True))
    whole = part(600)
    assert torch.equal(clean, torch.from_numpy(whole.images))
    assert labels.tolist() == whole.labels.tolist()
    assert times.tolist() == [number % 7 for number in range(600)]
    noise = []
    for number in range(3):
        random = np.random.Generator(np.random.Philox(key=2**64 - 1 + (2 << 64), counter=number << 128))
        noise.append(torch.from_numpy(random.standard_normal((200, 1, 2, 2), dtype=np.float32)))
    assert torch.equal(mixture, denoising.noised(clean, torch.cat(noise), signal_share(7)[times]))
    labels = torch.cat([chunk[1] for chunk in task_of(VisionTask).valid()])
    assert labels.tolist() == whole.labels.tolist()


class Right:
    """A model that is right about the first `right` images of a validation, and sure of it."""

    def __init__(self, right: int) -> None:
        self.right, self.seen = right, 0

    def vision(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        numbers = (images[:, 0, 0, 0] * 2048).long()
        said = (numbers + (numbers >= self.right)) % 5
        return torch.nn.functional.one_hot(said, 5).float(), torch.zeros(len(images), 0, 4)


@pytest.mark.clause("ARB-TRAIN-003")
@pytest.mark.parametrize(
    ("count", "right"), [(257, 129), (257, 0), (257, 257), (513, 200), (769, 257), (3, 1)]
)
def test_accuracy_is_a_quotient_of_counts(count: int, right: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of a validation are not of one size, so a mean of their means is another number."""
    task = VisionTask(image_set(valid=count), Options(**SMALL))
    trainer = Trainer.__new__(Trainer)
    model = Right(right)
    losses = iter([2.0, 3.0, 5.0, 7.0])
    model.take_expert_use = list  # type: ignore[attr-defined]
    monkeypatch.setattr(trainer, "task", task, raising=False)
    monkeypatch.setattr(trainer, "device", torch.device("cpu"), raising=False)
    monkeypatch.setattr(trainer, "learner", type("Stub", (), {"model": model}), raising=False)
    monkeypatch.setattr(trainer, "result", type("Stub", (), {}), raising=False)
    monkeypatch.setattr(trainer, "_loss", lambda *_: torch.tensor(next(losses)), raising=False)
    sizes = [len(batch[0]) for batch in task.valid()]
    mean = trainer.validate()
    assert trainer.result.measures["accuracy"] == right / count
    weighted = sum(size * loss for size, loss in zip(sizes, (2, 3, 5, 7), strict=False))
    assert abs(mean - weighted / count) < 1e-12
    assert len(sizes) == -(-count // 256)


# -- samples


@pytest.mark.clause("ARB-MODEL-007")
def test_samples_lie_in_the_order_of_their_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """`each` of the first class, then of the second: a model that draws its label shows it."""
    config = ARBConfig(16, 1, 2, image=ImageShape(classes=3), times=4)
    model = ARBModel(config, backend="torch", enable_diffusion=True)

    def denoise(x: torch.Tensor, times: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return (labels.float() / 4)[:, None, None, None].expand_as(x)

    monkeypatch.setattr(model, "denoise", denoise)
    for each in (1, 2, 5):
        found = (denoising.draw_samples(model, each)[:, 0, 0, 0] * 4).tolist()
        assert found == sorted(list(range(3)) * each)
