"""The one training loop: draw, forward, update, log, validate, save; interruptible and resumable at every
step.

An entry point gives the flags and the corpus; what learns is behind `learners.Learner`. A run is a pure
function of its options: batches are drawn from (seed, step), random bits from counters, so a resumed run ends
in the same losses and the same state hash (ARB-TRAIN-002).
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console

from arbitor.checkpoint import load_checkpoint, save_checkpoint, state_hash
from arbitor.kernels import registry
from arbitor.update import COUNTS

from .corpus import Corpus, draw_batch, next_batch, unigram_entropy, valid_batches
from .learners import Learner, make_learner
from .options import Options
from .progress import Progress
from .run_folder import RunFolder, config_mismatch
from .ternary_runtime import reset_runtime_state

CHECKPOINT = "checkpoint.safetensors"
console = Console(stderr=True)


@dataclass
class Result:
    """What a run measured. `losses` has one entry a logged line, `valid` one a validation.

    `backend` and `reason` are the backend and why it was taken; a baseline has none.
    """

    name: str
    backend: str = ""
    reason: str = ""
    steps: int = 0
    losses: list[float] = field(default_factory=list)
    valid: list[float] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    unigram: float = math.nan
    digest: str = ""
    float_parameters: int = 0
    seconds: float = 0.0
    interrupted: bool = False


def train(options: Options, corpus: Corpus) -> Result:
    """Run `options` on `corpus`. Raises ValueError for what cannot be run, before a file is written."""
    corpus.require(options.ctx)
    if options.resume and not (options.runs / options.run / CHECKPOINT).is_file():
        raise ValueError(f"--resume: there is no {options.runs / options.run / CHECKPOINT}")
    device = _device(options)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    learner = make_learner(options, device)
    trainer = Trainer(options, corpus, learner, device)
    if options.resume:
        trainer.resume()
    return trainer.run()


def _device(options: Options) -> torch.device:
    if options.device != "auto":
        return torch.device(options.device)
    on_gpu = torch.cuda.is_available() and registry.choose(options.backend, "cuda").backend.arrays == "torch"
    return torch.device("cuda" if on_gpu else "cpu")


class Trainer:
    """State of one run."""

    def __init__(self, options: Options, corpus: Corpus, learner: Learner, device: torch.device) -> None:
        self.options, self.corpus, self.learner, self.device = options, corpus, learner, device
        self.folder = None if options.no_save else RunFolder(options.runs, options.run)
        self._parts = options.accum if options.accumulate == "exact" else 1
        self.done = 0
        self.result = Result(learner.name, unigram=unigram_entropy(corpus.train))
        self.result.float_parameters = sum(p.numel() for p in learner.model.parameters())
        if not options.baseline:
            choice = registry.choose(options.backend, device.type)
            self.result.backend, self.result.reason = choice.backend.name, choice.reason
        self._config = {
            "options": options.identity(),
            "corpus": {"name": corpus.name, "sha256": corpus.sha256},
        }
        self._window: list[torch.Tensor] = []
        self._sums = self._no_counts()

    # -- state on disk

    def resume(self) -> None:
        """Continue from the checkpoint of this run; the options must be those of its beginning."""
        if self.folder is None:
            raise ValueError("--resume needs a saved run, --no-save excludes it")
        checkpoint = load_checkpoint(self.folder.path / CHECKPOINT)
        pending = checkpoint.config.pop("pending", {"losses": [], "counts": {}})
        different = config_mismatch(checkpoint.config, self._config)
        if different:
            raise ValueError(f"{self.folder.path} was started with other settings: {', '.join(different)}")
        self.learner.load_state({name: tensor.to(self.device) for name, tensor in checkpoint.tensors.items()})
        self.done = checkpoint.step
        self._sums += torch.tensor([pending["counts"].get(name, 0) for name in COUNTS], device=self.device)
        losses = [float.fromhex(loss) for loss in pending["losses"]]
        self._window = [torch.tensor(loss, device=self.device) for loss in losses]
        self.folder.truncate(self.done)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        if self.folder is None:
            return
        fmt: Any = self.options.checkpoint_format
        pending = {
            "losses": [float(loss).hex() for loss in self._window],
            "counts": dict(zip(COUNTS, self._sums.tolist(), strict=True)),
        }  # not logged yet
        save_checkpoint(
            self.folder.path / CHECKPOINT,
            self.learner.state(),
            self._config | {"pending": pending},
            self.done,
            fmt=fmt,
            columns=self.learner.columns(),
        )

    def _start_folder(self) -> None:
        if self.folder is None or self.done:
            return
        if self.folder.metrics_path.exists():
            console.print(f"{self.folder.path} held an earlier run, which this one replaces", markup=False)
        self.folder.write_config(self._config)
        self.folder.metrics_path.unlink(missing_ok=True)

    # -- the loop

    def run(self) -> Result:
        """Train to the last step, or until interrupted; either way nothing is lost."""
        self._start_folder()
        started = time.monotonic()
        with _interruptible() as interrupted, Progress(self.options.steps, self.done, console) as progress:
            while self.done < self.options.steps and not interrupted:
                self._step()
                self._after_step(progress)
            self.result.interrupted = bool(interrupted)
        self.result.seconds = time.monotonic() - started
        self.result.steps = self.done
        self.result.digest = state_hash(self.learner.state())
        if self.folder is not None:
            self.save()
            try:
                self.folder.plot(f"{self.options.run}: {self.learner.name}", self.result.unigram)
            except ValueError as error:  # interrupted before the first line, or nothing was to be logged
                console.print(f"no picture: {error}", markup=False)
        return self.result

    def _step(self) -> None:
        """One update from `self._parts` microbatches."""
        losses = []
        for _ in range(self._parts):
            tokens, targets = self._batch()
            if not self.options.preserve_state:
                reset_runtime_state(self.learner.model)
            loss = self._loss(tokens, targets, self._parts, stateful=self.options.preserve_state)
            self.learner.accumulate(loss)
            losses.append(loss.detach())
            self.done += 1
        signal = torch.stack(losses).sum()
        updates = self.done // self._parts
        updated = self.learner.update(signal, updates - 1, self.options.steps // self._parts)
        self._window.append(signal)
        if updated.skipped is not None:
            self.result.skipped.append(f"step {self.done}: {updated.skipped}")
        if updated.counts is not None:
            self._sums += updated.counts  # on the device: they are read when they are logged

    def _batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        o = self.options
        draw = next_batch if o.preserve_state else draw_batch
        inputs, targets = draw(self.corpus.train, o.batch, o.ctx, o.seed, self.done)
        return torch.from_numpy(inputs).to(self.device), torch.from_numpy(targets).to(self.device)

    def _loss(
        self, tokens: torch.Tensor, targets: torch.Tensor, parts: int = 1, stateful: bool = False
    ) -> torch.Tensor:
        """The share of a microbatch in the mean loss of `parts` of them.

        A sum over a count, because then a token's gradient has the same bits however many microbatches there
        are (ARB-RUN-013).
        """
        # global to the process, in which another learner may have a step of its own between two of ours
        torch.set_float32_matmul_precision(self.learner.precision)
        cast = self.learner.autocast
        with torch.autocast(self.device.type, dtype=cast, enabled=cast is not None):
            logits = self.learner.model(tokens, stateful=stateful)
        total = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="sum")
        return total / (parts * targets.numel())

    def _due(self, interval: int) -> bool:
        """Every `interval` steps, on multiples of --accum (ARB-RUN-008), and at the end."""
        if interval == 0:
            return False
        every = -(-interval // self.options.accum) * self.options.accum
        return self.done % every == 0 or self.done == self.options.steps

    def _after_step(self, progress: Progress) -> None:
        o = self.options
        record: dict[str, Any] = {}
        if self._due(o.log_interval):
            record = self._take_window()
            self.result.losses.append(record["loss"])
        if self._due(o.eval_interval):
            record["val_loss"] = self.validate()
            self.result.valid.append(record["val_loss"])
        progress.advance(self._parts, o.batch * o.ctx, record)
        if record and self.folder is not None:
            self.folder.append({"step": self.done, **record, "tokens_per_s": round(progress.rate)})
        if o.save_interval and self._due(o.save_interval):
            self.save()

    def _take_window(self) -> dict[str, Any]:
        """Mean loss of all microbatches since the last line, and counts an update."""
        updates = len(self._window)
        record: dict[str, Any] = {"loss": torch.stack(self._window).double().mean().item()}
        record |= {name: total / updates for name, total in zip(COUNTS, self._sums.tolist(), strict=True)}
        self._window.clear()
        self._sums = self._no_counts()
        return record

    def _no_counts(self) -> torch.Tensor:
        return torch.zeros(len(COUNTS), dtype=torch.int64, device=self.device)

    @torch.no_grad()
    def validate(self) -> float:
        """Mean loss in nats a byte over fixed windows of the validation part."""
        o = self.options
        losses = [
            self._loss(torch.from_numpy(x).to(self.device), torch.from_numpy(y).to(self.device))
            for x, y in valid_batches(self.corpus.valid, o.batch, o.ctx, o.eval_batches)
        ]
        return torch.stack(losses).double().mean().item()


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """SIGINT and SIGTERM end the run after the step in progress; a second one is the usual kill."""
    caught: list[int] = []

    def remember(number: int, _frame: Any) -> None:
        caught.append(number)
        signal.signal(number, old[number])

    old: dict[int, Any] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            old[number] = signal.signal(number, remember)
        except ValueError:  # not the main thread: the caller owns the signals
            break
    try:
        yield caught
    finally:
        for caught_signal, handler in old.items():
            signal.signal(caught_signal, handler)
