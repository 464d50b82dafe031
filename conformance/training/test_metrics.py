"""Windows of metrics: a logged line has the means of the updates since the line before, however many they
are.

The law is written again here, from the losses and counts of each update alone, and compared over drawn runs:
short last windows, intervals that are no multiple of --accum, runs that were interrupted anywhere.
"""

from __future__ import annotations

import functools
import io
import math
import os
import time
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, cast

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from arbitor.conformance.judge.target import Target
from arbitor.conformance.training.trainers import Runs
from arbitor.main import ARBConfig, ARBModel
from arbitor.training import keeping, learners, loop, metrics
from arbitor.training.options import Options as options_of
from arbitor.training.recording import progress
from arbitor.training.recording.lines import read_lines
from arbitor.training.recording.run_folder import RunFolder
from arbitor.training.tasks import task as tasks
from arbitor.update import COUNTS

SPEED = "items_per_s"
TOPICS = "37d06970fc926e60c16dff401e441b84752446a36b6b64516c229fdec77e992c"  # pydoc-topics-3.11


def loss_of(step: int) -> float:
    """Of the microbatch of that step, counted from 0: exact in float32, none like another."""
    return (1 + step * step) / 64


def counts_of(update: int) -> list[int]:
    """Of an update, counted from 0."""
    return [update * update + place for place in range(len(COUNTS))]


@functools.cache
def small_model() -> ARBModel:
    return ARBModel(ARBConfig(d_model=8, layers=1, heads=1, group_size=4), backend="torch")


class Known:
    """A learner and a task in one, whose losses and counts are known; a model that is hardly there."""

    name, precision, autocast = "known", "highest", None
    unit, item, guess_name, guess = "nats", "bytes", "a guess", 1.0
    flags: ClassVar[dict[str, Any]] = {}
    shape: ClassVar[dict[str, Any]] = {}
    sha256, size, skipped, notes, items, positions = "0" * 64, "little", (), (), 10, 10

    def __init__(self) -> None:
        self.model = small_model()

    def batch(self, step: int) -> tuple[torch.Tensor, ...]:
        return (torch.tensor([step]),)

    def loss(self, model: Any, batch: Any, parts: int, stateful: bool) -> torch.Tensor:
        return torch.tensor(loss_of(int(batch[0])))

    def accumulate(self, loss: torch.Tensor) -> None:
        pass

    def update(self, loss_signal: torch.Tensor, done: int, total: int) -> Any:
        return learners.Updated(torch.tensor(counts_of(done)))

    def valid(self) -> list[Any]:
        return [(torch.tensor([0]),)]

    def measure(self, model: Any, batch: Any) -> dict[str, tuple[float, int]]:
        return {}

    def state(self) -> dict[str, torch.Tensor]:
        return dict(self.model.state_dict())

    def load_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self.model.load_state_dict(dict(tensors))

    def columns(self) -> dict[str, int]:
        return {}

    def recorded(self) -> dict[str, torch.Tensor]:
        return {}

    def finish(self, model: Any, folder: Any) -> None:
        pass


def session(options: Any, stop_at: int | None) -> Any:
    """One session of a run, interrupted after `stop_at` steps."""
    known = Known()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_learner", lambda *_: known)
        patch.setattr(RunFolder, "plot", lambda *_: None)
        patch.setattr(os, "fsync", lambda _: None)  # waits for a disk, thousands of times
        honest = loop.Trainer._goes_on

        def goes_on(trainer: Any, interrupted: list[int]) -> bool:
            return bool(honest(trainer, [2] if stop_at is not None and trainer.done >= stop_at else []))

        patch.setattr(loop.Trainer, "_goes_on", goes_on)
        return loop.train(options, cast(Any, known))


def lines_of(steps: int, interval: int, accum: int, exact: bool) -> list[dict[str, Any]]:
    """The law: every line that a run logs, from what each update was."""
    parts = accum if exact else 1
    losses = [
        math.fsum(loss_of(step) for step in range(first, first + parts)) for first in range(0, steps, parts)
    ]
    found, window = [], []
    for update, loss in enumerate(losses):
        window.append((loss, counts_of(update)))
        step = (update + 1) * parts
        if interval and (step == steps or step % (math.ceil(interval / accum) * accum) == 0):
            mean = math.fsum(loss for loss, _ in window) / len(window)
            each = [sum(counts) / len(window) for counts in zip(*(c for _, c in window), strict=True)]
            found.append({"step": step, "loss": mean, **dict(zip(COUNTS, each, strict=True))})
            window = []
    return found


def logged(folder: Path) -> list[dict[str, Any]]:
    lines = read_lines(folder / "run" / "metrics.jsonl")
    return [{key: value for key, value in line.items() if key != SPEED} for line in lines]


@pytest.mark.clause("ARB-RUN-008", "ARB-TRAIN-002", "ARB-RUN-007")
@given(
    updates=st.integers(1, 9),
    interval=st.integers(0, 7),
    accum=st.integers(1, 4),
    exact=st.booleans(),
    stops=st.lists(st.integers(0, 36), max_size=3),
)
@example(updates=6, interval=4, accum=1, exact=False, stops=[])
@example(updates=7, interval=2, accum=3, exact=False, stops=[])
@example(updates=7, interval=2, accum=3, exact=False, stops=[1, 5])
@example(updates=4, interval=3, accum=2, exact=True, stops=[6])
def test_windows(
    target: Target, updates: int, interval: int, accum: int, exact: bool, stops: Sequence[int]
) -> None:
    """Means over the updates of a window, whatever its length, and however often the run was interrupted."""
    if target.backend.name != "torch":
        pytest.skip("nothing is computed in these runs: they are made once, in the lane of torch")
    steps = updates * (accum if exact else 1)
    with TemporaryDirectory() as name:
        given: dict[str, Any] = {"steps": steps, "log_interval": interval, "accum": accum, "run": "run"}
        given |= {"accumulate": "exact" if exact else "updates", "eval_interval": 0, "runs": Path(name)}
        given |= {"backend": "torch", "device": "cpu", "save_interval": 0, "threads": 1}
        for stop in [*sorted(stops), None]:
            resume = (Path(name) / "run" / "checkpoint.safetensors").exists()
            result = session(options_of(**given, resume=resume), stop)
        assert result.steps == steps
        if interval == 0:
            assert not (Path(name) / "run" / "metrics.jsonl").exists()
        else:
            assert logged(Path(name)) == lines_of(steps, interval, accum, exact)


@pytest.mark.clause("ARB-RUN-008", "ARB-RUN-007")
@pytest.mark.parametrize(
    ("flags", "steps", "votes"),
    [
        ("--steps 6 --log-interval 4", [4, 6], 7102.5),
        ("--steps 7 --log-interval 2 --accum 3", [3, 6, 7], None),
        ("--steps 5 --log-interval 9", [5], None),
    ],
)
@pytest.mark.usefixtures("no_picture")
def test_votes_of_a_short_window(runs: Runs, flags: str, steps: list[int], votes: float | None) -> None:
    """Of real runs: an update's votes are those of the run that logs each step."""
    folder = runs.folder
    for name, more in (("each", ["--log-interval", "1", "--accum", "1"]), ("short", [])):
        assert runs("pretrain.py", *flags.split(), *more, "--run", name) == 0
    each = {line["step"]: line for line in read_lines(folder / "each" / "metrics.jsonl")}
    short = read_lines(folder / "short" / "metrics.jsonl")
    assert [line["step"] for line in short] == steps
    for before, line in zip([0, *steps], short, strict=False):
        window = [each[step] for step in range(before + 1, line["step"] + 1)]
        for key in ("loss", *COUNTS):
            assert line[key] == math.fsum(one[key] for one in window) / len(window), key
    if votes is not None:
        assert short[-1]["votes"] == votes


@pytest.mark.clause("ARB-RUN-008", "ARB-RUN-007")
@pytest.mark.usefixtures("no_picture")
def test_votes_of_the_last_two_of_six(tmp_path: Path) -> None:
    """6 steps with log interval 4 on the default corpus: 6,875.5 votes an update, and not half of them."""
    given: dict[str, Any] = {"steps": 6, "log_interval": 4, "eval_interval": 0, "batch": 2, "ctx": 8}
    given |= {"d_model": 16, "heads": 2, "layers": 1, "group_size": 16, "threads": 1, "run": "run"}
    options = options_of(**given, backend="torch", device="cpu", runs=tmp_path)
    task = tasks.TextTask.of(options)
    if task.sha256 != TOPICS:
        pytest.skip("the documentation of another Python")
    loop.train(options, task)
    assert [(line["step"], line["votes"]) for line in logged(tmp_path)] == [(4, 7456.25), (6, 6875.5)]


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans(), st.integers(1, 60)), min_size=1, max_size=12))
@example([(1, False, 7), (1, True, 5), (1, True, 3)])
def test_speed_of_a_window(calls: Sequence[tuple[int, bool, int]]) -> None:
    """Items since the line before over the seconds since then; steps that were made in an earlier session do
    not count."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", clock.monotonic)
        shown = progress.Progress(1000, 40, "bytes", keeping.console)
        items = seconds = 0
        for steps, logs, passed in calls:
            clock.now += passed
            shown.advance(steps, 16, {"step": 1} if logs else {})
            items, seconds = items + 16 * steps, seconds + passed
            if logs:
                assert shown.rate == items / seconds
                items = seconds = 0


@pytest.mark.parametrize(
    ("steps", "done", "calls", "shown"),
    [
        (600, 0, [(120, 23.75)], ["120/600  20 %  1:35 left  loss 2.1000"]),
        # this session has made 10 steps in 20 seconds, whatever an earlier one took for 100
        (600, 100, [(10, 20.0)], ["110/600  18 %  16:20 left  loss 2.1000"]),
        (1000, 0, [(1, 9.0), (998, 991.0), (1, 1.0)], [
            "1/1000  0 %  2:29:51 left  loss 2.1000",
            "999/1000  99 %  0:01 left  loss 2.1000",
            "1000/1000  100 %  0:00 left  loss 2.1000",
        ]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("terminal", [False, True])
def test_per_cent_and_time_left(
    steps: int, done: int, calls: list[tuple[int, float]], shown: list[str], terminal: bool
) -> None:
    """In the line of a record where there is no terminal, and in the bar where there is one."""
    clock, out = Clock(), io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=200, color_system=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", clock.monotonic)
        with progress.Progress(steps, done, "bytes", console) as bar:
            for made, passed in calls:
                clock.now += passed
                bar.advance(made, 16, {"loss": 2.1})
    if not terminal:
        assert [line.rpartition("  ")[0] for line in out.getvalue().splitlines()] == shown
    else:
        _, share, left, loss = shown[-1].split("  ")
        assert f"{share}  {left}" in out.getvalue()
        assert f" {loss}  " in out.getvalue()


class Doubled:
    """Two ranks that have the same."""

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor * 2


@pytest.mark.clause("ARB-TRAIN-005")
@given(st.lists(st.floats(0, 100, width=32), min_size=1, max_size=9))
def test_sums_of_losses_by_hand(losses: list[float]) -> None:
    """In units of 2^-32, to nearest, and rounded once; in any order, on any ranks."""
    scalars = [torch.tensor(loss, dtype=torch.float32) for loss in losses]
    units = sum(round(Fraction(loss) * 2**32) for loss in losses)
    for ranks, total in ((None, units), (Doubled(), 2 * units)):
        expected = torch.tensor(total, dtype=torch.float64).mul(2.0**-32).float()
        assert metrics.sum_of(scalars, cast(Any, ranks)) == expected
        assert metrics.sum_of(scalars[::-1], cast(Any, ranks)) == expected


@pytest.mark.clause("ARB-TRAIN-005")
def test_losses_that_are_not_finite() -> None:
    """Make a sum and a mean NaN; one above 2^20 counts as that."""
    one, large = torch.tensor(1.0), torch.tensor(2.0**30)
    for wrong in (math.nan, math.inf, -math.inf):
        assert metrics.sum_of([one, torch.tensor(wrong)], None).isnan()
        assert math.isnan(metrics.mean([1.0, wrong]))
    assert metrics.sum_of([one, large], None) == 2.0**20 + 1
    assert metrics.mean([1.0, 4.0], [2, 1]) == 2.0
    assert metrics.mean([0.1] * 10) == 0.1  # a sum that is rounded ten times is not
