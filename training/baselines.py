"""Twins of ARBModel: the same architecture with BitNet b1.58's straight-through layers, or with plain
float32 ones.

STE (Ma et al. 2024, arXiv 2402.17764): float32 latents; weights become round(clip(W / mean|W|)) * mean|W|,
activations int8 with one absmax scale a token; gradients pass both roundings unchanged. Embeddings stay
float32, as there. The norms are the model's own, without parameters. On CUDA a twin multiplies in TF32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from arbitor.between.work import Work
from arbitor.kernels.ambient import plain

from .float_work import FloatWork


class FloatLinear(nn.Linear):
    """A float32 projection without bias, weights drawn with variance 1/I."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False, dtype=torch.float32)
        nn.init.normal_(self.weight, std=in_features**-0.5)


class SteLinear(FloatLinear):
    """BitNet b1.58: ternary weights and int8 activations in the forward, straight-through in the backward."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., I] -> [..., O]."""
        return F.linear(_straight_through(x, _int8(x)), _straight_through(self.weight, _ternary(self.weight)))


def _ternary(weight: torch.Tensor) -> torch.Tensor:
    scale = weight.abs().mean().clamp(min=1e-5)
    return (weight / scale).round().clamp(-1, 1) * scale


def _int8(x: torch.Tensor) -> torch.Tensor:
    scale = x.abs().amax(-1, keepdim=True).clamp(min=1e-5) / 127
    return (x / scale).round().clamp(-128, 127) * scale


def _straight_through(x: torch.Tensor, quantised: torch.Tensor) -> torch.Tensor:
    return x + (quantised - x).detach()


class BaselineParts:
    """Projections and tables of a twin on the CPU: kind "ste" or "float"; weights are a function of the seed
    and of the order in which they are made. What the process is set to does not reach them, and its random
    state is not changed."""

    def __init__(self, kind: str, seed: int) -> None:
        kinds: dict[str, type[FloatLinear]] = {"ste": SteLinear, "float": FloatLinear}
        if kind not in kinds:
            raise ValueError(f"unknown baseline {kind!r}; known: {', '.join(kinds)}")
        self._linear = kinds[kind]
        self.float_work = FloatWork()
        self.work: Work = self.float_work
        self._random = torch.Generator("cpu").manual_seed(seed).get_state()

    def linear(self, in_features: int, out_features: int, **options: Any) -> nn.Module:
        """A projection of the twin's kind; what options say of ternary layers is not for it."""
        with self._drawing():
            return self._linear(in_features, out_features)

    def embedding(self, rows: int, columns: int) -> nn.Module:
        """A float32 table."""
        with self._drawing():
            return nn.Embedding(rows, columns, dtype=torch.float32)

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """What torch draws meanwhile goes on from what this twin has drawn before."""
        with plain(), torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._random)
            yield
            self._random = torch.get_rng_state()
