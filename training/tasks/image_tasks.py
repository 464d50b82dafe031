"""What ARBModel is trained on where the data are images: their classes, or themselves without noise."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

import torch

from arbitor.main import ARBModel
from arbitor.modalities import ImageShape

from ..options import Options
from .images import ImageSet, Part, chunks, class_entropy, draw_images, load_images
from .task import Batch, Task, mean_cross_entropy, mean_squared_error

VALID_BATCH = 256  # images; not --batch, so that every run's validation is over the same
NEXT_PATCHES = 0.1  # weight of their error beside the cross-entropy of the class


class ImageTask(Task):
    """What both tasks on images have. Raises ValueError for options that do not go with images."""

    item = "images"
    beside: ClassVar[int]  # positions of an image beside its patches

    def __init__(self, data: ImageSet, options: Options) -> None:
        o, self.data, self.options = options, data, options
        if o.preserve_state:
            raise ValueError("--preserve-state is for text: images do not go on in the next one")
        if not len(data.train) or not len(data.valid):
            raise ValueError(
                f"images {data.name}: {len(data.train)} to train on, {len(data.valid)} to validate"
            )
        channels, side = data.train.images.shape[1:3]
        self.image = ImageShape(side, channels, o.patch, len(data.classes))
        self.shape = {"image": self.image, "times": o.times}
        self.name, self.sha256 = data.name, data.sha256
        self.skipped, self.notes = data.skipped, data.notes
        self.size = f"{len(data.train):,} + {len(data.valid):,} images of {len(data.classes)} classes"
        self.items = o.batch
        self.positions = o.batch * (self.image.count + self.beside)

    @classmethod
    def of(cls, options: Options) -> Self:
        """The images that --image-data names."""
        o = options
        return cls(load_images(o.image_data, o.image_side, o.image_channels, o.fold), o)

    def _drawn(self, step: int) -> Part:
        o = self.options
        return Part(*draw_images(self.data.train, o.batch, o.seed, step, o.augment))

    def _validation(self) -> Iterable[Part]:
        """The validation part, or its first --eval-batches chunks if it is longer."""
        return itertools.islice(chunks(self.data.valid, VALID_BATCH), self.options.eval_batches)


class VisionTask(ImageTask):
    """The class of an image. The loss is the class's cross-entropy and 0.1 of the mean squared error of the
    next patches, in training and in validation; `accuracy` is measured beside it."""

    kind, unit, guess_name = "images", "nats an image", "class entropy"
    flags: ClassVar[Mapping[str, Any]] = {"enable_vision": True}
    beside = 1

    def __init__(self, data: ImageSet, options: Options) -> None:
        super().__init__(data, options)
        self.guess = class_entropy(data.train.labels)

    def batch(self, step: int) -> Batch:
        """Images float32 [batch, C, S, S], labels int64 [batch]."""
        part = self._drawn(step)
        return torch.from_numpy(part.images), torch.from_numpy(part.labels)

    def loss(self, model: ARBModel, batch: Batch, parts: int, stateful: bool) -> torch.Tensor:
        """Cross-entropy of the class + 0.1 * mean squared error of the next patches."""
        images, labels = batch
        classes, patches_after = model.vision(images)
        error = mean_squared_error(model.work, patches_after, self.image.patches(images)[:, 1:], parts)
        return mean_cross_entropy(model.work, classes, labels, parts) + NEXT_PATCHES * error

    def valid(self) -> Iterable[Batch]:
        """The validation part, as it is."""
        for part in self._validation():
            yield torch.from_numpy(part.images), torch.from_numpy(part.labels)

    def measure(self, model: ARBModel, batch: Batch) -> dict[str, tuple[float, int]]:
        """How many images have their own as the likeliest class, of how many."""
        images, labels = batch
        classes, _ = model.vision(images)
        return {"accuracy": (int((classes.argmax(-1) == labels).sum()), len(labels))}
