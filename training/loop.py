"""The one training loop: draw, forward, update, log, validate, save; interruptible and resumable at every
step.

An entry point gives the flags and the task; what learns is behind `learners.Learner`, what it learns from
behind `task.Task`. A run is a pure function of its options: batches are drawn from (seed, step), random bits
from counters, so a resumed run ends in the same losses and the same state hash (ARB-TRAIN-002).
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
from rich.console import Console

from arbitor.checkpoint import load_checkpoint, save_checkpoint, state_hash
from arbitor.kernels import registry
from arbitor.kernels.operations import MAX_TOKENS
from arbitor.moe import summary
from arbitor.ranks import Ranks
from arbitor.update import COUNTS

from .learners import Learner, make_learner
from .options import Options
from .progress import Progress
from .run_folder import RunFolder, config_mismatch
from .tasks.task import Batch, Task
from .ternary_runtime import reset_runtime_state
from .transfer import Taken, take_over

CHECKPOINT = "checkpoint.safetensors"
console = Console(stderr=True)


@dataclass
class Result:
    """What a run measured. `losses` has one entry a logged line, `valid` one a validation; `measures` and
    `experts`, the passes and the shares of experts by block, are from the last one; `guess` is what knowing
    frequencies alone would score.

    `backend` and `reason` are the backend and why it was taken; a baseline has none.
    """

    name: str
    backend: str = ""
    reason: str = ""
    steps: int = 0
    losses: list[float] = field(default_factory=list)
    valid: list[float] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    unit: str = ""
    guess: float = math.nan
    guess_name: str = ""
    measures: dict[str, float] = field(default_factory=dict)
    experts: list[dict[str, Any]] = field(default_factory=list)
    digest: str = ""
    float_parameters: int = 0
    seconds: float = 0.0
    interrupted: bool = False


def train(options: Options, task: Task, ranks: Ranks | None = None) -> Result:
    """Run `options` on `task`, on this rank of several or alone. Raises ValueError for what cannot be run,
    before a file is written."""
    if options.resume and not (options.runs / options.run / CHECKPOINT).is_file():
        raise ValueError(f"--resume: there is no {options.runs / options.run / CHECKPOINT}")
    device = registry.device_for(options.device, options.backend)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    learner = make_learner(options, device, task.shape, task.flags)
    taken = None if options.init is None else take_over(learner.model, options.init)
    trainer = Trainer(options, task, learner, device, ranks, taken)
    if taken is not None:
        console.print(f"{len(taken.names)} of {taken.total} tensors taken from {options.init}", markup=False)
    if options.resume:
        trainer.resume()
    return trainer.run()


class Trainer:
    """State of one run."""

    def __init__(
        self,
        options: Options,
        task: Task,
        learner: Learner,
        device: torch.device,
        ranks: Ranks | None = None,
        taken: Taken | None = None,
    ) -> None:
        self.options, self.task, self.learner, self.device = options, task, learner, device
        self.ranks, self._first = ranks, ranks is None or ranks.rank == 0
        if ranks is not None:
            if options.batch % ranks.size:
                raise ValueError(f"--batch {options.batch} is no multiple of the {ranks.size} ranks")
            learner.join(ranks)
        self._parts = options.accum if options.accumulate == "exact" else 1
        positions = task.positions * self._parts
        if positions > MAX_TOKENS and not options.baseline:
            raise ValueError(f"an update is of at most {MAX_TOKENS} tokens, got {positions}")
        # one of several ranks writes
        self.folder = RunFolder(options.runs, options.run) if self._first and not options.no_save else None
        self.done = 0
        self.result = Result(learner.name, unit=task.unit, guess=task.guess, guess_name=task.guess_name)
        self.result.float_parameters = sum(p.numel() for p in learner.model.parameters())
        if not options.baseline:
            choice = registry.choose(options.backend, device.type)
            self.result.backend, self.result.reason = choice.backend.name, choice.reason
        self._config: dict[str, Any] = {
            "options": options.identity(),
            "corpus": {"name": task.name, "sha256": task.sha256},
        }
        if taken is not None:
            self._config["init"] = taken.digest
        self._window: list[torch.Tensor] = []
        self._sums = self._no_counts()

    # -- state on disk

    def resume(self) -> None:
        """Continue from the checkpoint of this run; the options must be those of its beginning."""
        if self.options.no_save:
            raise ValueError("--resume needs a saved run, --no-save excludes it")
        path = self.options.runs / self.options.run
        checkpoint = load_checkpoint(path / CHECKPOINT)
        pending = checkpoint.config.pop("pending", None)
        if "init" in checkpoint.config:  # a finetuning goes on from what it was begun with
            self._config["init"] = checkpoint.config["init"]
        different = config_mismatch(checkpoint.config, self._config)
        if different:
            text = f"{path} was started with other settings: {'; '.join(different)}"
            if any(line.startswith("options.steps ") for line in different):
                text += " (a run cannot be made longer or shorter: its schedule depends on its steps)"
            raise ValueError(text)
        if not isinstance(pending, dict) or pending.get("counts", {}).keys() != set(COUNTS):
            # without them the next logged line would be a mean of too little
            raise ValueError(
                f"{path / CHECKPOINT}: pending is {pending!r}, expected losses and counts to be logged"
            )
        self.learner.load_state({name: tensor.to(self.device) for name, tensor in checkpoint.tensors.items()})
        self.done = checkpoint.step
        self._sums += torch.tensor([pending["counts"][name] for name in COUNTS], device=self.device)
        losses = [float.fromhex(loss) for loss in pending["losses"]]
        self._window = [torch.tensor(loss, device=self.device) for loss in losses]
        if self.folder is not None:
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
        self._any(False)  # the ranks meet: all have read what --init names, which may be in that folder
        if self.folder is None or self.options.resume:
            return
        moved = self.folder.set_aside()
        if moved is not None:
            console.print(moved, markup=False, soft_wrap=True)
        self.folder.write_config(self._config)

    # -- the loop

    def run(self) -> Result:
        """Train to the last step, or until interrupted; either way nothing is lost."""
        self._start_folder()
        started = time.monotonic()
        with _interruptible() as interrupted, self._progress() as progress:
            while self.done < self.options.steps and not self._any(bool(interrupted)):
                self._step()
                self._after_step(progress)
            self.result.interrupted = self._any(bool(interrupted))
        self.result.seconds = time.monotonic() - started
        self.result.steps = self.done
        self.result.digest = state_hash(self.learner.state())
        if self.folder is not None:
            self.save()
            try:
                title = f"{self.options.run}: {self.learner.name}"
                self.folder.plot(title, self.task.unit, self.task.guess_name, self.task.guess)
            except ValueError as error:  # interrupted before the first line, or nothing was to be logged
                console.print(f"no picture: {error}", markup=False)
        if self._first and not self.result.interrupted:
            self.task.finish(self.learner.model, None if self.folder is None else self.folder.path)
        return self.result

    def _progress(self) -> Progress:
        return Progress(self.options.steps, self.done, self.task.item, console)

    def _step(self) -> None:
        """One update from `self._parts` microbatches."""
        losses = []
        shares = self._parts * (1 if self.ranks is None else self.ranks.size)
        for _ in range(self._parts):
            batch = self._placed(self._own(self.task.batch(self.done)))
            if not self.options.preserve_state:
                reset_runtime_state(self.learner.model)
            loss = self._loss(batch, shares, stateful=self.options.preserve_state)
            self.learner.accumulate(loss)
            losses.append(loss.detach())
            self.done += 1
        signal = torch.stack(losses).sum()
        if self.ranks is not None:
            signal = self.ranks.sum(signal)
        updates = self.done // self._parts
        updated = self.learner.update(signal, updates - 1, self.options.steps // self._parts)
        self._window.append(signal)
        if updated.skipped is not None:
            self.result.skipped.append(f"step {self.done}: {updated.skipped}")
        if updated.counts is not None:
            self._sums += updated.counts  # on the device: they are read when they are logged

    def _any(self, flag: bool) -> bool:
        """Whether it is true here, or on any rank: they stop together."""
        return flag if self.ranks is None else self.ranks.any(flag)

    def _own(self, batch: Batch) -> Batch:
        """This rank's part of a batch."""
        return batch if self.ranks is None else tuple(self.ranks.slice(tensor) for tensor in batch)

    def _placed(self, batch: Batch) -> Batch:
        return tuple(tensor.to(self.device) for tensor in batch)

    def _loss(self, batch: Batch, parts: int = 1, stateful: bool = False) -> torch.Tensor:
        """The task's loss, and the balance of experts where there are some."""
        # global to the process, in which another learner may have a step of its own between two of ours
        torch.set_float32_matmul_precision(self.learner.precision)
        model, cast = self.learner.model, self.learner.autocast
        with torch.autocast(self.device.type, dtype=cast, enabled=cast is not None):
            loss = self.task.loss(model, batch, parts, stateful)
            balance = model.auxiliary_loss()
        if balance is not None:
            loss = loss + self.options.balance * balance / parts
        return loss

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
            record |= self.result.measures
            if self.result.experts:
                record["experts"] = self.result.experts
            self.result.valid.append(record["val_loss"])
        progress.advance(self._parts, self.task.items, record)
        if record and self.folder is not None:
            self.folder.append({"step": self.done, **record, "items_per_s": round(progress.rate)})
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
        """Mean loss, and means of what else the task measures, over fixed batches of the validation part."""
        losses: list[torch.Tensor] = []
        measured: dict[str, list[float]] = {}
        model = self.learner.model
        model.take_expert_use()  # that of training
        for batch in map(self._placed, self.task.valid()):
            losses.append(self._loss(batch))
            for name, value in self.task.measure(model, batch).items():
                measured.setdefault(name, []).append(value)
        self.result.measures = {name: sum(values) / len(values) for name, values in measured.items()}
        used = model.take_expert_use()
        self.result.measures |= summary(used)
        self.result.experts = [{"iterations": use.iterations, "shares": use.shares} for use in used]
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
