"""What a model is trained on: batches, their loss, and what a guess would score; the loop knows no more.

`TextTask` is the bytes of a corpus. Other modalities bring their own (`images.py`, `sound.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F

from arbitor.main import ARBModel

from .corpus import Corpus, draw_batch, next_batch, unigram_entropy, valid_batches
from .options import Options

Batch = tuple[torch.Tensor, ...]


class Task(Protocol):
    """Data of one kind and the loss on it. Batches are a function of the seed and the step."""

    name: str  # of the data
    sha256: str  # of the data
    size: str  # in words
    unit: str  # of the loss
    guess: float  # what knowing frequencies alone scores, which a run must beat (ARB-TRAIN-003)
    guess_name: str
    items: int  # tokens, images, ... of a batch
    shape: Mapping[str, Any]  # fields of ARBConfig that the data decides
    flags: Mapping[str, Any]  # of ARBModel

    def batch(self, step: int) -> Batch:
        """The batch of a step, on the CPU."""
        ...

    def loss(self, model: ARBModel, batch: Batch, parts: int, stateful: bool) -> torch.Tensor:
        """The share of this microbatch in the mean loss of `parts` of them.

        A sum over a count, because then an element's gradient has the same bits however many microbatches
        there are (ARB-RUN-013).
        """
        ...

    def valid(self) -> Iterable[Batch]:
        """Fixed batches of what is not trained on."""
        ...

    def measure(self, model: ARBModel, batch: Batch) -> dict[str, float]:
        """What is worth knowing beside the loss, such as accuracy."""
        ...


@runtime_checkable
class Finishing(Protocol):
    """A task that makes something of the trained model."""

    def finish(self, model: ARBModel, folder: Path | None) -> None:
        """Called once, after the last step; `folder` is the run's, None if nothing is saved."""
        ...


def mean_cross_entropy(logits: torch.Tensor, targets: torch.Tensor, parts: int) -> torch.Tensor:
    """logits [..., K], targets int64 [...] -> the share of these in the mean over `parts` such batches."""
    total = F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), reduction="sum")
    return total / (parts * targets.numel())


@dataclass
class TextTask:
    """The next byte of windows of a corpus. Raises ValueError for a corpus shorter than a window."""

    corpus: Corpus
    options: Options

    unit = "nats a byte"
    guess_name = "unigram entropy"
    shape: Mapping[str, Any] = field(default_factory=dict)
    flags: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.corpus.require(self.options.ctx)
        self.name, self.sha256 = self.corpus.name, self.corpus.sha256
        self.size = f"{len(self.corpus.train):,} + {len(self.corpus.valid):,} bytes"
        self.guess = unigram_entropy(self.corpus.train)
        self.items = self.options.batch * self.options.ctx

    def batch(self, step: int) -> Batch:
        """Bytes int64 [batch, ctx] and the bytes after them; the next ones with --preserve-state."""
        o = self.options
        draw = next_batch if o.preserve_state else draw_batch
        inputs, targets = draw(self.corpus.train, o.batch, o.ctx, o.seed, step)
        return torch.from_numpy(inputs), torch.from_numpy(targets)

    def loss(self, model: ARBModel, batch: Batch, parts: int, stateful: bool) -> torch.Tensor:
        """Cross-entropy of the next byte."""
        tokens, targets = batch
        return mean_cross_entropy(model(tokens, stateful=stateful), targets, parts)

    def valid(self) -> Iterable[Batch]:
        """Fixed windows of the validation part."""
        o = self.options
        for inputs, targets in valid_batches(self.corpus.valid, o.batch, o.ctx, o.eval_batches):
            yield torch.from_numpy(inputs), torch.from_numpy(targets)

    def measure(self, model: ARBModel, batch: Batch) -> dict[str, float]:
        """Nothing: the loss says it all."""
        return {}
