"""Images with classes: scikit-learn's digits, or the user's folder with one sub-folder a class.

Images are float32 [N, C, S, S] in -1..1. The digits (UCI's hand-written digits: 1,797 of 8 x 8 in 10
classes, grey values 0..16) ship inside scikit-learn, so a first run needs no download; they become x / 8 - 1,
of mean -0.39. A fixed shuffle is cut into five folds, whatever the seed of a run: one is for validation, the
others are trained on. Settings that were chosen on one fold are judged on the others.

Batches and their augmentation are a function of (seed, step), from Philox's raw words as in `corpus.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from ..options import FOLDS
from .opening import FOLDER, Reading, look, shown, some_of
from .pixels import Images, decoded, need_pillow

Labels = npt.NDArray[np.int64]

DIGITS = "digits"
MOST_CLASSES = 31  # special tokens that can name one
SHUFFLE_SEED = 20_190_416  # of the split, never of a run
IMAGES_KEY, NOISE_KEY = 1, 2  # the upper 64 bits of Philox's key: streams apart from the corpora's


@dataclass(frozen=True)
class Part:
    """Images float32 [N, C, S, S] in -1..1 and their labels int64 [N]."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ImageSet:
    """A part to train on and one to validate on. ``sha256`` is that of all pixels and labels in file order;
    ``skipped`` names each file that was left out, with the reason; ``notes`` are sentences about what was
    read."""

    name: str
    classes: tuple[str, ...]
    train: Part
    valid: Part
    sha256: str
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def load_images(
    source: str | Path | None = None, side: int = 8, channels: int = 1, fold: int = 0
) -> ImageSet:
    """The images that ``source`` names: None for the digits, else a folder whose sub-folders are classes.
    Those of ``fold`` (0..4) are the part to validate on.

    A folder's images are scaled to ``side`` x ``side`` and turned to grey (1 channel) or RGB (3), as
    `pixels.py` says. Raises ValueError if there is nothing to read, and for fewer than 2 classes or more
    than 31.
    """
    if source is None:
        if (side, channels) != (8, 1):
            raise ValueError(f"the digits are 8 x 8 in 1 channel, got {side} x {side} in {channels}")
        return _digits(fold)
    found = look(source)
    if found != FOLDER:
        raise ValueError(
            f"images '{shown(source)}': expected a folder with one sub-folder a class, found {found}"
        )
    need_pillow()
    return _folder(Path(source), side, channels, fold)


def shifted(images: Images, dy: Labels, dx: Labels) -> Images:
    """Images [B, C, S, S], each moved by dy rows and dx columns in -1..1; the edge is repeated."""
    side = images.shape[-1]
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    rows, columns = (1 - d[:, None] + np.arange(side) for d in (dy, dx))
    pick, channel = np.arange(len(images))[:, None, None, None], np.arange(images.shape[1])[:, None, None]
    moved: Images = padded[pick, channel, rows[:, None, :, None], columns[:, None, None, :]]
    return moved


def draw_images(part: Part, batch: int, seed: int, step: int, augment: bool) -> tuple[Images, Labels]:
    """Random images of ``part`` [batch, C, S, S] and their labels int64 [batch], the images moved by up to a
    pixel each way if ``augment``. A pure function of its arguments (ARB-TRAIN-002)."""
    words = np.random.Philox(key=seed + (IMAGES_KEY << 64), counter=step << 128).random_raw(2 * batch)
    picks = (words[:batch] % np.uint64(len(part))).astype(np.int64)
    images, labels = part.images[picks], part.labels[picks]
    if augment:
        place = (words[batch:] % np.uint64(9)).astype(np.int64)
        images = shifted(images, place // 3 - 1, place % 3 - 1)
    return images, labels


def chunks(part: Part, largest: int) -> Iterator[Part]:
    """All of ``part`` in its order, in as few parts of at most ``largest`` images as there can be; sizes
    differ by one at most."""
    for places in np.array_split(np.arange(len(part)), -(-len(part) // largest)):
        yield Part(part.images[places], part.labels[places])


def class_entropy(labels: Labels) -> float:
    """Entropy of the frequencies of the classes, nats an image: what a guess that sees no image scores."""
    p = np.bincount(labels) / len(labels)
    return float(-np.sum(p[p > 0] * np.log(p[p > 0])))


def pixel_variance(images: Images) -> float:
    """Mean squared error a pixel of the mean image: what a guess that sees no image scores."""
    return float(images.astype(np.float64).var(axis=0).mean())


def _digits(fold: int) -> ImageSet:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ValueError(
            "the digits come with scikit-learn, which is not installed: pip install scikit-learn, or name a "
            "folder with --image-data"
        ) from error
    data = load_digits()
    images = (data.images[:, None] / 8 - 1).astype(np.float32)
    return _split(DIGITS, tuple("0123456789"), images, data.target.astype(np.int64), fold)


def _split(
    name: str,
    classes: tuple[str, ...],
    images: Images,
    labels: Labels,
    fold: int,
    skipped: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> ImageSet:
    digest = hashlib.sha256(images.astype("<f4").tobytes() + labels.astype("<i8").tobytes())
    # sorted by random words: NumPy keeps those between its versions, and not its shuffles
    order = np.argsort(np.random.Philox(key=SHUFFLE_SEED).random_raw(len(labels)), kind="stable")
    held = np.arange(len(labels)) % FOLDS == fold
    train, valid = (Part(images[order[where]], labels[order[where]]) for where in (~held, held))
    known = {image.tobytes() for image in train.images}
    copies = sum(image.tobytes() in known for image in valid.images)
    if copies:
        notes = (*notes, f"{copies} of {len(valid)} images to validate on have the pixels of one to train on")
    return ImageSet(name, classes, train, valid, digest.hexdigest(), skipped, notes)


def _folder(folder: Path, side: int, channels: int, fold: int) -> ImageSet:
    """Each sub-folder with an image in it is a class; labels count these alone."""
    reading = Reading(folder)
    loose: list[Path] = []
    found: list[Images] = []
    labels: list[int] = []
    names: list[str] = []

    def decode(file: BinaryIO) -> Images:
        reading.take(side * side * channels * 4)
        return decoded(file, side, channels)

    for path in reading.files():
        place, *below = path.relative_to(folder).parts
        if not below:
            loose.append(path)
        elif (image := reading.read(path, decode)) is not None:
            if names[-1:] != [place]:
                names.append(place)
            found.append(image)
            labels.append(len(names) - 1)
    if not 2 <= len(names) <= MOST_CLASSES:
        outside = [path for path in loose if reading.read(path, decode) is not None]
        raise ValueError(
            f"images '{shown(folder)}': found {len(found)} images in {len(names)} sub-folders, expected 2 to "
            f"{MOST_CLASSES} sub-folders with images, one a class{_besides(reading, outside)}"
        )
    for path in loose:
        reading.leave_out(path, "in no class's sub-folder")
    places = (path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    bare = sorted({path.name for path in places if not path.name.startswith(".")} - set(names))
    images, truth = np.stack(found), np.array(labels, dtype=np.int64)
    notes = (*reading.notes, *(f"{shown(place)}/ has no image and is no class" for place in bare))
    classes = tuple(map(shown, names))
    return _split(reading.title, classes, images, truth, fold, reading.skipped, notes)


def _besides(reading: Reading, loose: list[Path]) -> str:
    """The rest of the sentence about a folder of no use: images directly in it, and what was left out."""
    parts = []
    if loose:
        lie = "1 image lies" if len(loose) == 1 else f"{len(loose)} images lie"
        own = shown((reading.source / "cat" / loose[0].name).as_posix())
        parts.append(f"; {lie} directly in the folder: each class needs a sub-folder of its own ({own})")
    if reading.skipped:
        parts.append(f"; skipped: {some_of(reading.skipped)}")
    elif not loose and next(reading.source.iterdir(), None) is None:
        parts.append("; the folder is empty")
    return "".join(parts)
