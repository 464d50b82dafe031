"""The one training loop: draw, forward, update, log, validate, save; interruptible and resumable at every
step.

An entry point gives the flags and the task; what learns is behind `learners.Learner`, what it learns from
behind `task.Task`. A run is a pure function of its options: batches are drawn from (seed, step), random bits
from counters, so a resumed run ends in the same losses and the same state hash (ARB-TRAIN-002).

What can be refused is, in `prepared`, before anything is written. What fails later ends the run in
`TrainingFailed`: the checkpoint on disk is the last whole one. Ranks stop together, whatever stops one.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from arbitor.checkpoint import state_hash
from arbitor.kernels import registry
from arbitor.kernels.operations import MAX_TOKENS
from arbitor.kernels.writing import unwritable
from arbitor.moe import summary
from arbitor.ranks import Ranks

from .keeping import TROUBLE, Kept, TrainingFailed, console
from .learners import Learner, make_learner
from .metrics import Result, Window, due, mean, sum_of
from .options import Options
from .recording.progress import Progress
from .recording.recorder import Recorder
from .recording.run_folder import FILES, RunFolder
from .settings.recorded import resumable
from .tasks.task import Batch, Task
from .ternary_runtime import reset_runtime_state
from .transfer import Taken, take_over

GO_ON, INTERRUPTED, FAILED = range(3)  # what a rank makes of a step


def train(options: Options, task: Task, ranks: Ranks | None = None) -> Result:
    """Run `options` on `task`, on this rank of several or alone. Raises as `prepared` and `run` do."""
    with prepared(options, task, ranks) as trainer:
        return trainer.run()


@contextmanager
def prepared(options: Options, task: Task, ranks: Ranks | None = None) -> Iterator[Trainer]:
    """A run that can begin. Its folder is locked meanwhile; nothing else is written, and no rank waits for
    another. Raises ValueError, RuntimeError or OSError for what cannot be run."""
    folder = resumable(options) if options.resume else RunFolder(options.runs, options.run)
    device = registry.device_for(options.device, options.backend)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    learner = make_learner(options, device, task.shape, task.flags)
    taken = None if options.init is None else take_over(learner.model, options.init)
    trainer = Trainer(options, task, learner, device, ranks, taken)
    with ExitStack() as held:
        if ranks is None or ranks.rank == 0:  # one of several writes
            options.refuse_own_files(FILES)
            for flag, path in options.outputs().items():
                reason = unwritable(path)
                if reason is not None:
                    raise ValueError(f"{flag} {path} {reason}")
            if not options.no_save:
                trainer.kept.folder = held.enter_context(folder)
                folder.refuse_unwritable(options.resume)
        if options.resume:
            trainer.resume()
        yield trainer


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
        self.parts = options.accum if options.accumulate == "exact" else 1
        positions = task.positions * self.parts
        if positions > MAX_TOKENS and not options.baseline:
            raise ValueError(f"an update is of at most {MAX_TOKENS} tokens, got {positions}")
        self.done, self._began_at = 0, 0
        self.result = Result(learner.name, unit=task.unit, guess=task.guess, guess_name=task.guess_name)
        self.result.float_parameters = sum(p.numel() for p in learner.model.parameters())
        if not options.baseline:
            choice = registry.choose(options.backend, device.type)
            self.result.backend, self.result.reason = choice.backend.name, choice.reason
        config: dict[str, Any] = {
            "options": options.identity(),
            "corpus": {"name": task.name, "sha256": task.sha256},
        }
        if taken is not None:
            config["init"] = taken.digest
        self._taken, self._window = taken, Window(device)
        self.kept = Kept(options, config, self._window)
        self._recorder: Recorder | None = None
        if learner.recorded() and self._first and not options.no_save:
            self.record()

    def record(self) -> Recorder:
        """Have digests of every update from here on."""
        backend = registry.choose(self.options.backend, self.device.type).backend
        size = 1 if self.ranks is None else self.ranks.size
        self._recorder = Recorder(self.task.kind, self.learner.recorded(), backend, size)
        return self._recorder

    def resume(self) -> None:
        """Continue from the checkpoint of this run; the options must be those of its beginning."""
        self.done = self._began_at = self.kept.resume(self.learner, self.device, self.parts)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all, where one is kept."""
        self.kept.save(self.learner, self.done)

    def run(self) -> Result:
        """Train to the last step, or until interrupted; either way nothing is lost.

        Raises `TrainingFailed` for what keeps it from that: a full disk, a device without memory.
        """
        if self._taken is not None:
            share = f"{len(self._taken.names)} of {self._taken.total}"
            console.print(f"{share} tensors taken from {self.options.init}", markup=False)
        started = time.monotonic()
        try:
            progress = Progress(self.options.steps, self.done, self.task.item, console)
            with _interruptible() as interrupted, progress:
                self.kept.start(self._opening())
                if self._taken is not None and self.options.keep_interval and not self.done:
                    self.kept.keep(self.learner, 0)  # what --init gave is nowhere else
                while self._goes_on(interrupted) and self.done < self.options.steps:
                    self._step()
                    self._after_step(progress)
            self.result.seconds = time.monotonic() - started
            self.result.steps = self.done
            self.result.digest = self._agreed_hash()
        except TROUBLE as error:
            raise self._failed(error) from error
        if self._first:
            if self._recorder is not None:
                self.kept.record(self._recorder.lines())
            self.save()
            self.kept.end(self.learner, self.task, trained=not self.result.interrupted)
        if self.kept.failure is not None:
            raise self._failed(self.kept.failure)
        return self.result

    def _failed(self, error: Exception | None) -> TrainingFailed:
        return self.kept.failed(error, self.done, self.done > self._began_at)

    def _goes_on(self, interrupted: list[int]) -> bool:
        """Whether no rank is to stop. Raises TrainingFailed if one has failed."""
        own = INTERRUPTED if interrupted else GO_ON
        if self.kept.failure is not None:
            own = FAILED
        if self.ranks is not None:
            own = int(self.ranks.largest(torch.tensor(own, dtype=torch.int32)))
        if own == FAILED:
            raise self._failed(self.kept.failure)
        self.result.interrupted = own == INTERRUPTED
        return own == GO_ON

    def _agreed_hash(self) -> str:
        """The state hash. Raises TrainingFailed if it is not that of all ranks."""
        own = state_hash(self.learner.state())
        found = [own] if self.ranks is None else self.ranks.texts(own)
        for rank, digest in enumerate(found):
            if digest != found[0]:
                text = f"the ranks have different states: {found[0]} on rank 0, {digest} on rank {rank}"
                raise self._failed(RuntimeError(text) if self._first else None)
        return own

    def _step(self) -> None:
        """One update from `self.parts` microbatches."""
        losses = []
        shares = self.parts * (1 if self.ranks is None else self.ranks.size)
        for _ in range(self.parts):
            drawn = self.task.batch(self.done)
            if self._recorder is not None:
                self._recorder.batch(drawn)
            batch = self._placed(self._own(drawn))
            if not self.options.preserve_state:
                reset_runtime_state(self.learner.model)
            loss = self._loss(batch, shares, stateful=self.options.preserve_state)
            self.learner.accumulate(loss)
            losses.append(loss.detach())
            self.done += 1
        signal = sum_of(losses, self.ranks)
        updates = self.done // self.parts
        updated = self.learner.update(signal, updates - 1, self.options.steps // self.parts)
        if self.options.log_interval:
            self._window.add(signal, updated.counts)
        if self._recorder is not None:
            self._recorder.updated(self.done, signal, self.learner.recorded())
        if updated.skipped is not None:
            self.result.skipped.append(f"step {self.done}: {updated.skipped}")

    def _opening(self) -> list[dict[str, Any]]:
        """The first lines of digests.jsonl."""
        return [] if self._recorder is None else self._recorder.opening(self.done, self.learner.recorded())

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
            loss = loss + balance * (self.options.balance / parts)
        return loss

    def _due(self, interval: int) -> bool:
        return due(self.done, interval, self.options.accum, self.options.steps)

    def _after_step(self, progress: Progress) -> None:
        o = self.options
        record: dict[str, Any] = {}
        if self._due(o.log_interval):
            record = self._window.take()
            self.result.losses.append(record["loss"])
        if self._due(o.eval_interval):
            record["val_loss"] = self.validate()
            record |= self.result.measures
            if self.result.experts:
                record["experts"] = self.result.experts
            self.result.valid.append(record["val_loss"])
        progress.advance(self.parts, self.task.items, record)
        if record:
            self.kept.log({"step": self.done, **record, "items_per_s": round(progress.rate)})
        saved = self._due(o.save_interval) and self.done < o.steps and not o.no_save
        kept = self._due(o.keep_interval) and not o.no_save
        if self._recorder is not None and (record or saved or kept or self._recorder.full):
            self.kept.record(self._recorder.lines())
        # the last one is written in any case; one that is kept is of all ranks
        if (saved or kept) and self.ranks is not None:
            self._agreed_hash()
        if saved:
            self.save()
        if kept:
            self.kept.keep(self.learner, self.done)

    @torch.no_grad()
    def validate(self) -> float:
        """Mean loss, and means of what else the task measures, over all items of fixed batches of the
        validation part, which need not be of one size."""
        losses: list[torch.Tensor] = []
        sizes: list[int] = []
        measured: dict[str, tuple[float, int]] = {}
        model = self.learner.model
        model.take_expert_use()  # that of training
        for batch in map(self._placed, self.task.valid()):
            losses.append(self._loss(batch))
            sizes.append(len(batch[0]))
            for name, (part, of) in self.task.measure(model, batch).items():
                total, count = measured.get(name, (0.0, 0))
                measured[name] = total + part, count + of
        self.result.measures = {name: total / count for name, (total, count) in measured.items()}
        used = model.take_expert_use()
        self.result.measures |= summary(used)
        self.result.experts = [{"iterations": use.iterations, "shares": use.shares} for use in used]
        return mean(torch.stack(losses).tolist(), sizes)


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
