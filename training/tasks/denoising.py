"""Diffusion: a model that sees a noised image and says what the clean one was, and samples drawn with it.

Noising keeps the variance (Ho et al. 2020, arXiv 2006.11239): x_t = sqrt(s_t) x + sqrt(1 - s_t) noise, s from
`arbitor.modalities.signal_share`. Sampling is DDIM (Song et al. 2020, arXiv 2010.02502) with eta = 0.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from arbitor.kernels.writing import write_whole
from arbitor.main import ARBModel
from arbitor.modalities import NO_LABEL, signal_share

from ..options import Options
from .image_tasks import ImageTask
from .images import NOISE_KEY, ImageSet, pixel_variance
from .task import Batch, mean_squared_error

DROPPED = 0.1  # share of labels that training hides
SAMPLES = 8  # of every class, in the picture
VALID_SEED, SAMPLE_SEED = 2**64 - 1, 2**64 - 2  # of noise that is the same in every run

Denoise = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def generator(seed: int, step: int) -> np.random.Generator:
    """Noise as a function of (seed, step); the same as long as NumPy's normal distribution is."""
    return np.random.Generator(np.random.Philox(key=seed + (NOISE_KEY << 64), counter=step << 128))


def normal(random: np.random.Generator, *extents: int) -> torch.Tensor:
    """Standard normal float32."""
    return torch.from_numpy(random.standard_normal(extents, dtype=np.float32))


def noised(images: torch.Tensor, noise: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """images, noise float32 [B, C, S, S] and share of the signal float64 [B] -> the mixture."""
    wide = share[:, None, None, None].numpy()
    signal, rest = (torch.from_numpy(np.sqrt(part).astype(np.float32)) for part in (wide, 1 - wide))
    return signal * images + rest * noise  # on the host, and by a root that rounds to nearest everywhere


@torch.no_grad()
def ddim(denoise: Denoise, noise: torch.Tensor, times: int) -> torch.Tensor:
    """Images in -1..1 from noise float32 [B, C, S, S], deterministic, through all `times` from the last to 0.

    `denoise` takes x and times int64 [B] to clean images; its guess is clipped to -1..1, where images are.
    All are on the CPU: CUDA divides by a number of the host in another way.
    """
    share = signal_share(times).tolist()
    x, clean = noise, noise
    for time in range(times - 1, -1, -1):
        clean = denoise(x, torch.full((len(x),), time)).clamp(-1, 1)
        if time:
            seen = (x - share[time] ** 0.5 * clean) / (1 - share[time]) ** 0.5
            x = share[time - 1] ** 0.5 * clean + (1 - share[time - 1]) ** 0.5 * seen
    return clean


def draw_samples(model: ARBModel, each: int = SAMPLES) -> torch.Tensor:
    """`each` images of every class, [classes * each, C, S, S] by class, from noise that is ever the same."""
    image = model.config.image
    labels = torch.arange(image.classes).repeat_interleave(each)
    noise = normal(generator(SAMPLE_SEED, 0), len(labels), image.channels, image.side, image.side)
    device = next(iter(model.state_dict().values())).device

    def denoise(*of: torch.Tensor) -> torch.Tensor:
        return model.denoise(*(each.to(device) for each in (*of, labels))).cpu()

    return ddim(denoise, noise, model.config.times)


def write_grid(images: torch.Tensor, columns: int, path: Path) -> None:
    """Images [N, C, S, S] in -1..1 as a PNG, row by row, enlarged to 32 or more pixels a side."""
    Image, data = _pillow(), io.BytesIO()
    count, channels, side, _ = images.shape
    framed = torch.nn.functional.pad(images, (0, 1, 0, 1), value=0.0)
    rows = framed.reshape(count // columns, columns, channels, side + 1, side + 1).permute(0, 3, 1, 4, 2)
    pixels = rows.reshape(count // columns * (side + 1), columns * (side + 1), channels)
    bytes_ = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
    picture = Image.fromarray(bytes_[..., 0] if channels == 1 else bytes_)
    zoom = max(1, -(-32 // side))
    picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST).save(data, "PNG")
    write_whole(path, data.getvalue())


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ValueError(
            "a picture of samples needs Pillow, which is not installed: pip install pillow"
        ) from error
    return Image


class DiffusionTask(ImageTask):
    """The clean image, from one with noise, its time and its class. The loss is the mean squared error a
    pixel, times drawn evenly."""

    kind, unit, guess_name = "diffusion", "squared error a pixel", "variance of the data"
    flags: ClassVar[Mapping[str, Any]] = {"enable_diffusion": True}
    beside = 2

    def __init__(self, data: ImageSet, options: Options) -> None:
        super().__init__(data, options)
        if options.samples is not None or not options.no_save:
            _pillow()  # refused before the training and not after it
        if options.seed >= SAMPLE_SEED:
            raise ValueError(
                f"--seed must be below {SAMPLE_SEED}, behind which is the noise of validation and samples, "
                f"got {options.seed}"
            )
        self.guess = pixel_variance(data.train.images)

    def batch(self, step: int) -> Batch:
        """Clean and noised images float32 [batch, C, S, S], times int64 [batch], labels int64 [batch]."""
        random, part = generator(self.options.seed, step), self._drawn(step)
        times = torch.from_numpy(random.integers(0, self.options.times, len(part)))
        hidden = random.random(len(part)) < DROPPED
        labels = np.where(hidden, NO_LABEL, part.labels)
        return self._with_noise(part.images, times, labels, random)

    def _with_noise(
        self, images: np.ndarray[Any, Any], times: torch.Tensor, labels: Any, random: np.random.Generator
    ) -> Batch:
        clean = torch.from_numpy(images)
        share = signal_share(self.options.times)[times]
        return clean, noised(clean, normal(random, *clean.shape), share), times, torch.from_numpy(labels)

    def loss(self, model: ARBModel, batch: Batch, parts: int, stateful: bool) -> torch.Tensor:
        """Mean squared error of the clean image."""
        clean, mixture, times, labels = batch
        return mean_squared_error(model.work, model.denoise(mixture, times, labels), clean, parts)

    def valid(self) -> Iterable[Batch]:
        """The validation part with its labels, times in turn, and the same noise every time."""
        first = 0
        for number, part in enumerate(self._validation()):
            times = torch.arange(first, first + len(part)) % self.options.times
            yield self._with_noise(part.images, times, part.labels, generator(VALID_SEED, number))
            first += len(part)

    def finish(self, model: ARBModel, folder: Path | None) -> None:
        """Draw samples of every class into --samples, and else into samples.png of the run's folder."""
        path = self.options.samples or (folder / "samples.png" if folder else None)
        if path is not None:
            write_grid(draw_samples(model), SAMPLES, path)
