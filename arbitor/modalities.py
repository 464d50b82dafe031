"""From images and waveforms to sequences of vectors and back (ARB-MODEL-005 to -007)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

MU = 255  # of the mu-law, ITU-T G.711
CLASS_TOKEN = 256  # its position gives the class of an image
FIRST_LABEL = 257  # 257 + class conditions a diffusion
NO_LABEL = -1  # no class: special token 256


@dataclass(frozen=True)
class ImageShape:
    """Images [channels, side, side] in patches of patch x patch, of so many classes."""

    side: int = 8
    channels: int = 1
    patch: int = 2
    classes: int = 10

    def __post_init__(self) -> None:
        if self.patch < 1 or self.side % self.patch:
            raise ValueError(f"side must be a multiple of patch, got side {self.side} and patch {self.patch}")
        if not 1 <= self.classes <= 31:
            raise ValueError(f"classes must be in 1..31 (special tokens), got {self.classes}")

    @property
    def width(self) -> int:
        """Numbers of a patch."""
        return self.channels * self.patch**2

    @property
    def count(self) -> int:
        """Patches of an image."""
        return (self.side // self.patch) ** 2

    def patches(self, images: torch.Tensor) -> torch.Tensor:
        """float [B, C, S, S] -> [B, count, width]. Raises ValueError for another shape."""
        expected = (self.channels, self.side, self.side)
        if images.dim() != 4 or tuple(images.shape[1:]) != expected:
            raise ValueError(
                f"images must have shape [B, {', '.join(map(str, expected))}], got {tuple(images.shape)}"
            )
        n, p = self.side // self.patch, self.patch
        cut = images.reshape(-1, self.channels, n, p, n, p)
        return cut.permute(0, 2, 4, 1, 3, 5).reshape(-1, n * n, self.width)

    def images(self, patches: torch.Tensor) -> torch.Tensor:
        """The inverse of `patches`."""
        n, p = self.side // self.patch, self.patch
        cut = patches.reshape(-1, n, n, self.channels, p, p)
        return cut.permute(0, 3, 1, 4, 2, 5).reshape(-1, self.channels, self.side, self.side)


def label_tokens(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Classes int64 [B] or NO_LABEL -> special tokens (ARB-MODEL-007).

    Raises ValueError for another number on the CPU; nothing waits for a device.
    """
    if not labels.is_cuda and not bool(((labels >= NO_LABEL) & (labels < classes)).all()):
        raise ValueError(f"labels must be in {NO_LABEL}..{classes - 1}, got {labels.tolist()}")
    return FIRST_LABEL + labels


def frames(waveform: torch.Tensor, length: int) -> torch.Tensor:
    """float [B, S] -> [B, S // length, length]; what does not fill a frame is left out. Raises ValueError if
    none is filled."""
    if waveform.dim() != 2 or waveform.shape[1] < length:
        raise ValueError(f"waveform must have shape [B, S], S at least {length}, got {tuple(waveform.shape)}")
    count = waveform.shape[1] // length
    return waveform[:, : count * length].reshape(-1, count, length)


def mu_law(waveform: torch.Tensor) -> torch.Tensor:
    """float in -1..1 -> codes int64 in 0..255 (ARB-MODEL-006). Raises ValueError outside, and for a NaN."""
    if not bool((waveform.abs() <= 1).all()):
        raise ValueError("samples must be in -1..1")
    wide = waveform.double()
    squeezed = wide.sign() * torch.log1p(MU * wide.abs()) / math.log1p(MU)
    return ((squeezed + 1) / 2 * MU + 0.5).floor().long()


def from_mu_law(codes: torch.Tensor) -> torch.Tensor:
    """Codes -> float32 samples: the values that `mu_law` maps onto them."""
    squeezed = 2 * codes.double() / MU - 1
    return (squeezed.sign() * (torch.pow(1.0 + MU, squeezed.abs()) - 1) / MU).float()


def signal_share(steps: int) -> torch.Tensor:
    """Share of the clean image's variance at each of `steps` times, float64, falling: the cosine schedule of
    Nichol & Dhariwal 2021 (arXiv 2102.09672)."""
    t = (number / (steps + 1) for number in range(1, steps + 1))
    shares = [math.cos((at + 0.008) / 1.008 * math.pi / 2) ** 2 for at in t]  # torch's depends on the CPU
    return torch.tensor(shares, dtype=torch.float64, device="cpu")
