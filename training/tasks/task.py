"""What a model is trained on: batches, their loss, and what a guess would score; the loop knows no more.

`TextTask` is the bytes of a corpus; others are in `image_tasks.py`, `denoising.py` and `sound.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from arbitor.between.work import Work
from arbitor.main import ARBModel

from ..options import Options
from .corpus import Corpus, draw_batch, load_corpus, next_batch, unigram_entropy, valid_batches

Batch = tuple[torch.Tensor, ...]


class Task(ABC):
    """Data of one kind and the loss on it. Batches are a function of the seed and the step."""

    kind: ClassVar[str]  # of the flags that name the data
    unit: ClassVar[str]  # of the loss
    item: ClassVar[str]  # what speed counts
    guess_name: ClassVar[str]
    flags: ClassVar[Mapping[str, Any]] = {}  # of ARBModel

    name: str  # of the data
    sha256: str  # of the data
    size: str  # in words
    skipped: tuple[str, ...]  # files that were left out, each with the reason
    notes: tuple[str, ...] = ()  # sentences about what was read
    guess: float  # what knowing frequencies alone scores, which a run must beat (ARB-TRAIN-003)
    items: int  # of a batch
    positions: int  # tokens of a batch, as an update counts them (ARB-LIN-006)
    shape: Mapping[str, Any] = {}  # fields of ARBConfig that the data decides

    @classmethod
    @abstractmethod
    def of(cls, options: Options) -> Self:
        """The task on the data that the flags name. Raises ValueError for data or flags of no use."""

    @abstractmethod
    def batch(self, step: int) -> Batch:
        """The batch of a step, on the CPU."""

    @abstractmethod
    def loss(self, model: ARBModel, batch: Batch, parts: int, stateful: bool) -> torch.Tensor:
        """The share of this microbatch in the mean loss of `parts` of them.

        A sum over a count, because then an element's gradient has the same bits however many microbatches
        there are (ARB-RUN-013).
        """

    @abstractmethod
    def valid(self) -> Iterable[Batch]:
        """Fixed batches of what is not trained on."""

    def measure(self, model: ARBModel, batch: Batch) -> dict[str, tuple[float, int]]:
        """What is worth knowing beside the loss, such as accuracy: by name a sum over the batch, and of how
        many. Batches need not be of one size, so a mean of theirs would be no mean."""
        return {}

    def finish(self, model: ARBModel, folder: Path | None) -> None:
        """Make something of the trained model, once, after the last step; `folder` is the run's, None if
        nothing is saved."""
        return None


def mean_cross_entropy(work: Work, logits: torch.Tensor, targets: torch.Tensor, parts: int) -> torch.Tensor:
    """logits [..., K], targets int64 [...] -> the share of these in the mean over `parts` such batches."""
    # times a number of the host: CUDA divides by one in another way than a CPU
    return work.cross_entropy(logits, targets) * (1 / (parts * targets.numel()))


def mean_squared_error(work: Work, guess: torch.Tensor, truth: torch.Tensor, parts: int) -> torch.Tensor:
    """Both float [...] of one shape -> the share of these in the mean over `parts` such batches."""
    return work.squared_error(guess, truth) * (1 / (parts * truth.numel()))


class TextTask(Task):
    """The next byte of windows of a corpus. Raises ValueError for a corpus shorter than a window."""

    kind, unit, item, guess_name = "text", "nats a byte", "bytes", "unigram entropy"

    def __init__(self, corpus: Corpus, options: Options) -> None:
        corpus.require(options.ctx)
        self.corpus, self.options = corpus, options
        self.name, self.sha256 = corpus.name, corpus.sha256
        self.skipped, self.notes = corpus.skipped, corpus.notes
        self.size = f"{len(corpus.train):,} + {len(corpus.valid):,} bytes"
        self.guess = unigram_entropy(corpus.train)
        self.items = self.positions = options.batch * options.ctx

    @classmethod
    def of(cls, options: Options) -> Self:
        """The text that --text-data names."""
        return cls(load_corpus(options.text_data), options)

    def batch(self, step: int) -> Batch:
        """Bytes int64 [batch, ctx] and the bytes after them; the next ones with --preserve-state."""
        o = self.options
        draw = next_batch if o.preserve_state else draw_batch
        inputs, targets = draw(self.corpus.train, o.batch, o.ctx, o.seed, step)
        return torch.from_numpy(inputs), torch.from_numpy(targets)

    def loss(self, model: ARBModel, batch: Batch, parts: int, stateful: bool) -> torch.Tensor:
        """Cross-entropy of the next byte."""
        tokens, targets = batch
        return mean_cross_entropy(model.work, model(tokens, stateful=stateful), targets, parts)

    def valid(self) -> Iterable[Batch]:
        """Fixed windows of the validation part."""
        o = self.options
        for inputs, targets in valid_batches(self.corpus.valid, o.batch, o.ctx, o.eval_batches):
            yield torch.from_numpy(inputs), torch.from_numpy(targets)
