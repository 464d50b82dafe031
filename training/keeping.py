"""What a run keeps on disk, and goes on from: its checkpoint, its metrics, its picture.

One rank of several writes. A write that fails is remembered and not raised, because the other ranks are
waiting for this one: the loop asks for `Kept.failure` where all of them meet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from arbitor.checkpoint import load_checkpoint, save_checkpoint
from arbitor.refusal import sentence_of

from .learners import Learner
from .metrics import Window, left_over, pending_fault
from .options import Options
from .recording.run_folder import RunFolder
from .settings.recorded import refuse_other_settings
from .tasks.task import Task

# of data, of settings, of a device, of the system: a sentence says enough
TROUBLE = (ValueError, RuntimeError, OSError, MemoryError)

LINES = ("metrics", "digests")  # files that a checkpoint is written after, as a folder has them

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
        self._marks: Mapping[str, Any] | None = None  # of LINES, where a checkpoint is gone on from

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
            for name in LINES:
                getattr(self.folder, name).refuse_damaged(pending[name])
        learner.load_state({name: tensor.to(device) for name, tensor in checkpoint.tensors.items()})
        self.window.load_state(pending)
        self._marks, self._has_checkpoint = {name: pending[name] for name in LINES}, True
        return done

    def start(self, opening: Sequence[Mapping[str, Any]]) -> None:
        """Make the folder that of this run: set an earlier one aside, or go back to the checkpoint. A new
        digests.jsonl begins with the lines of `opening`."""
        if self.folder is not None:
            self._attempt(partial(self._start, self.folder, opening))

    def _start(self, folder: RunFolder, opening: Sequence[Mapping[str, Any]]) -> None:
        moved = []
        if self._marks is None:
            moved = [folder.set_aside()]
            folder.write_config(self.config)
        elif self.options.new_metrics:
            moved = [getattr(folder, name).begin() for name in LINES]
        else:
            for name, mark in self._marks.items():
                getattr(folder, name).rewind(mark)
        if opening and not folder.digests.count:
            folder.digests.append(*opening)
        for sentence in filter(None, moved):
            console.print(sentence, markup=False)

    def log(self, line: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl."""
        if self.folder is not None:
            self._attempt(partial(self.folder.metrics.append, line))

    def record(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Add lines to digests.jsonl."""
        if self.folder is not None and lines:
            self._attempt(partial(self.folder.digests.append, *lines))

    def save(self, learner: Learner, done: int) -> None:
        """Write the checkpoint of step `done`, whole or not at all; what was logged is on disk before it. On
        a rank that does not write, know that there is one."""
        self._has_checkpoint = self._has_checkpoint or not self.options.no_save
        if self.folder is not None:
            self._attempt(partial(self._save, self.folder, self.folder.checkpoint_path, learner, done))

    def keep(self, learner: Learner, done: int) -> None:
        """Write another checkpoint of step `done`, which stays."""
        if self.folder is not None:
            self._attempt(partial(self._save, self.folder, self.folder.kept(done), learner, done))

    def _save(self, folder: RunFolder, path: Path, learner: Learner, done: int) -> None:
        fmt: Any = self.options.checkpoint_format
        pending = self.window.state() | {name: getattr(folder, name).mark() for name in LINES}
        save_checkpoint(
            path,
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
