"""What a run keeps on disk, and goes on from: its checkpoint, its metrics, its picture.

One rank of several writes. A write that fails is remembered and not raised, because the other ranks are
waiting for this one: the loop asks for `Kept.failure` where all of them meet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from rich.console import Console

from arbitor.checkpoint import load_checkpoint, save_checkpoint
from arbitor.refusal import sentence_of

from .learners import Learner
from .metrics import Window, left_over, pending_fault
from .options import Options
from .run_folder import RunFolder
from .settings.recorded import refuse_other_settings
from .tasks.task import Task

# of data, of settings, of a device, of the system: a sentence says enough
TROUBLE = (ValueError, RuntimeError, OSError, MemoryError)

console = Console(stderr=True, soft_wrap=True)  # a path or a hash in two lines cannot be copied


class TrainingFailed(Exception):
    """Why a run did not get to its end, in one sentence that says what is left of it; empty on a rank that
    only stopped with another. `begun` says whether a step had been made."""

    def __init__(self, sentence: str, begun: bool) -> None:
        super().__init__(sentence)
        self.begun = begun


class Kept:
    """The folder of a run, None where nothing is written."""

    def __init__(self, options: Options, config: dict[str, Any], window: Window) -> None:
        self.options, self.config, self.window = options, config, window
        self.folder: RunFolder | None = None
        self._has_checkpoint = False  # or may have one
        self.failure: Exception | None = None
        self._place = RunFolder(options.runs, options.run)
        self._mark: Mapping[str, Any] | None = None  # of metrics.jsonl, where a checkpoint is gone on from

    def resume(self, learner: Learner, device: torch.device, parts: int) -> int:
        """Take over the checkpoint of this run and give its step; updates are of `parts` steps.

        Raises ValueError for a checkpoint that is not whole or not of these options, and for metrics that
        have lost what it says they have. Nothing on disk changes.
        """
        path, options = self._place.checkpoint_path, self.options
        checkpoint = load_checkpoint(path)
        pending, done = checkpoint.config.pop("pending", None), checkpoint.step
        if "init" in checkpoint.config:  # a finetuning goes on from what it was begun with
            self.config["init"] = checkpoint.config["init"]
        refuse_other_settings(self._place.path, checkpoint.config, self.config)
        if done > options.steps or done % parts:
            raise ValueError(f"{path}: step {done} is none of a run of {options.steps}")
        open_steps = left_over(done, options.log_interval, options.accum, options.steps)
        fault = pending_fault(pending, open_steps // parts)
        if fault is not None:
            raise ValueError(f"{path}: pending {fault}")
        if self.folder is not None and not options.new_metrics:
            self.folder.refuse_damaged(pending["metrics"])
        learner.load_state({name: tensor.to(device) for name, tensor in checkpoint.tensors.items()})
        self.window.load_state(pending)
        self._mark, self._has_checkpoint = pending["metrics"], True
        return done

    def start(self) -> None:
        """Make the folder that of this run: set an earlier one aside, or go back to the checkpoint."""
        if self.folder is not None:
            self._attempt(partial(self._start, self.folder))

    def _start(self, folder: RunFolder) -> None:
        moved = None
        if self._mark is None:
            moved = folder.set_aside()
            folder.write_config(self.config)
        elif self.options.new_metrics:
            moved = folder.begin_metrics()
        else:
            folder.rewind(self._mark)
        if moved is not None:
            console.print(moved, markup=False)

    def log(self, line: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl."""
        if self.folder is not None:
            self._attempt(partial(self.folder.append, line))

    def save(self, learner: Learner, done: int) -> None:
        """Write the checkpoint of step `done`, whole or not at all; what was logged is on disk before it. On
        a rank that does not write, know that there is one."""
        self._has_checkpoint = self._has_checkpoint or not self.options.no_save
        if self.folder is not None:
            self._attempt(partial(self._save, self.folder, learner, done))

    def _save(self, folder: RunFolder, learner: Learner, done: int) -> None:
        fmt: Any = self.options.checkpoint_format
        pending = self.window.state() | {"metrics": folder.mark()}
        save_checkpoint(
            folder.checkpoint_path,
            learner.state(),
            self.config | {"pending": pending},
            done,
            fmt=fmt,
            columns=learner.columns(),
        )

    def end(self, learner: Learner, task: Task, trained: bool) -> None:
        """Draw the picture of the run, and what the task makes of a model that is trained."""
        if self.folder is not None:
            self._attempt(partial(self._plot, self.folder, f"{self.options.run}: {learner.name}", task))
        if trained:
            place = None if self.folder is None else self.folder.path
            self._attempt(partial(task.finish, learner.model, place))

    def _plot(self, folder: RunFolder, title: str, task: Task) -> None:
        try:
            folder.plot(title, task.unit, task.guess_name, task.guess)
        except ValueError as error:  # interrupted before the first line, nothing logged, no matplotlib
            console.print(f"no picture: {error}", markup=False)

    def _attempt(self, writing: Callable[[], object]) -> None:
        """Do it, unless something has failed before."""
        if self.failure is None:
            try:
                writing()
            except TROUBLE as error:
                self.failure = error

    def failed(self, error: Exception | None, done: int, begun: bool) -> TrainingFailed:
        """Why there is no more after step `done`, and what there is."""
        if error is None:
            return TrainingFailed("", begun)
        return TrainingFailed(f"{sentence_of(error)}; after step {done}, {self._left()}", begun)

    def _left(self) -> str:
        """What there is of the run, as it is on disk."""
        path, step = self._place.checkpoint_path, None
        if self._has_checkpoint:
            with suppress(ValueError):
                step = load_checkpoint(path).step
        if step is None:
            return "nothing is saved"
        goes_on = ", from which --resume goes on" if step < self.options.steps else ", the last"
        return f"{path} is that of step {step}{goes_on}"
