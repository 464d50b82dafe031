"""`arbitor fuzz`: goes round over the operations and the training steps with new seeds, until a case fails.

Case number n of an operation is a function of the seed, the operation and n alone: neither the time nor the
other operations change it.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import hypothesis
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test
from rich.console import Console
from rich.live import Live
from rich.table import Table

from arbitor.conformance.draw.extents import draw_around_tiles
from arbitor.conformance.draw.strategies import arguments_of
from arbitor.conformance.judge.archive import STEPS, write
from arbitor.conformance.judge.artifacts import FOLDER, failure_of, how_to_replay, message_of
from arbitor.conformance.judge.cases import case_of, related
from arbitor.conformance.judge.target import Arguments, CaseLost, Target, target_of
from arbitor.conformance.machine.rules import machine_of
from arbitor.judge.asked import NotUsable, asked_for
from arbitor.judge.suite import interpret
from arbitor.kernels.operations import OPERATIONS
from arbitor.kernels.plain import lines
from arbitor.refusal import refuse

BATCH, RUNS = 25, 5  # cases of an operation and runs of training steps in one round
LENGTH = 20  # steps of a run
PATIENCE = 30.0  # seconds between lines where nobody looks at a terminal
FAILED, INTERRUPTED = 1, 130


class TimeIsOver(BaseException):
    """Ends a batch; no Exception, so that it is no failure of the case."""


class Fuzz:
    """Counts cases and the seconds that they took, by operation."""

    def __init__(self, target: Target, seconds: float | None, names: Sequence[str], seed: int) -> None:
        self.target, self.seed = target, seed
        self.end = None if seconds is None else time.monotonic() + seconds
        self.cases = dict.fromkeys(names, 0)
        self.seconds = dict.fromkeys(names, 0.0)
        self.shown: Callable[[], None] = lambda: None

    def run(self) -> None:
        """Round after round. Raises TimeIsOver, KeyboardInterrupt, or what a case raises when it fails."""
        number = 0
        while True:
            for name in self.cases:
                begin = time.monotonic()
                try:
                    self._batch(name, number)
                except Flaky as error:  # Hypothesis' word for a run that was left in the middle
                    left = [e for e in related(error) if isinstance(e, TimeIsOver | KeyboardInterrupt)]
                    if left:
                        raise left[0] from None
                    raise
                finally:
                    self.seconds[name] += time.monotonic() - begin
                self.shown()
            number += 1

    def _batch(self, name: str, number: int) -> None:
        """Batch `number` of an operation. Hypothesis draws the cases and shrinks the one that fails."""
        told = f"{self.seed} {name} {number}"
        seeded = hypothesis.seed(int.from_bytes(hashlib.sha256(told.encode()).digest()[:8], "little"))
        how = settings(
            max_examples=RUNS if name == STEPS else BATCH, database=None, deadline=None, derandomize=False,
            stateful_step_count=LENGTH, report_multiple_bugs=False, print_blob=False,
            phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        if name == STEPS:
            machine = machine_of(self.target, lambda new: self._count(STEPS, machine.failed, new))
            run_state_machine_as_test(seeded(machine), settings=how)
            return
        failed = False

        @seeded
        @how
        @given(arguments=arguments_of(name))
        def case(arguments: Arguments) -> None:
            nonlocal failed
            self._count(name, failed)
            try:
                self.target.check(name, arguments)
            except Exception:
                failed = True
                raise

        case()

    def _count(self, name: str, failed: bool, new: int = 1) -> None:
        """One more case, or one more step; the last one where the time is over, but a failure is shrunk."""
        if self.end is not None and time.monotonic() > self.end and not failed:
            raise TimeIsOver
        self.cases[name] += new

    def table(self) -> Table:
        """Cases and cases a second, by operation."""
        table = Table("operation", "cases", "a second", title=f"seed {self.seed}", title_justify="left")
        for name, cases in self.cases.items():
            seconds = self.seconds[name]
            table.add_row(name, f"{cases:,}", f"{cases / seconds:,.1f}" if seconds else "")
        return table

    def line(self) -> str:
        """The same in a line."""
        return f"{sum(self.cases.values()):,} cases in {sum(self.seconds.values()):,.0f} s"


def main(
    backend: str,
    device: str,
    seconds: float | None = None,
    only: Sequence[str] = (),
    seed: int | None = None,
    declared: Path | None = None,
) -> int:
    """1 if a case fails, with an artifact; 0 when the time is over; 130 after Ctrl-C; 2 with one sentence.

    `declared` is a file of capabilities, in the place of the backend's own declaration.
    """
    for name in only:
        if name not in (*OPERATIONS, STEPS):
            return refuse(f"--only {name}: expected an operation (arbitor doctor -v lists them) or {STEPS}")
    interpret(backend, device)
    try:
        gaps = asked_for(backend, device, declared).gaps
    except NotUsable as error:
        return refuse(str(error))
    lacking = [name for name in only if name in gaps or (name == STEPS and gaps)]
    if lacking:
        return refuse(f"backend {backend!r} does not declare what {lacking[0]} needs")
    target = target_of(backend, device)
    draw_around_tiles(target)
    names = only or [*(name for name in OPERATIONS if name not in gaps), *([] if gaps else [STEPS])]
    run = Fuzz(target, seconds, names, random.SystemRandom().getrandbits(32) if seed is None else seed)
    torch.set_num_threads(1)
    return _watched(run)


def _watched(run: Fuzz) -> int:
    """Run with what is happening on the screen: a table on a terminal, else a line now and then."""
    console = Console()
    print(f"seed {run.seed}: --seed {run.seed} repeats these cases", flush=True)
    if console.is_terminal:
        with Live(run.table(), console=console, refresh_per_second=2) as live:
            run.shown = lambda: live.update(run.table())
            status, words = _ended(run)
            live.update(run.table())
    else:
        run.shown = Lines(run)
        status, words = _ended(run)
        console.print(run.table())
    print(lines(words))
    return status


class Lines:
    """A line after every so many seconds."""

    def __init__(self, run: Fuzz) -> None:
        self.run, self.last = run, time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self.last > PATIENCE:
            self.last = time.monotonic()
            print(self.run.line(), flush=True)


def _ended(run: Fuzz) -> tuple[int, str]:
    """Exit status and last words, after a failure, the end of the time or Ctrl-C."""
    try:
        run.run()
    except TimeIsOver:
        return 0, f"no case failed: {run.line()}"
    except KeyboardInterrupt:
        return INTERRUPTED, f"interrupted; no case failed: {run.line()}"
    except (Exception, CaseLost) as error:
        case = case_of(error)
        if case is None:
            raise
        path = write(case, failure_of(case, error, f"arbitor fuzz --seed {run.seed}"), FOLDER)
        return FAILED, f"{message_of(error)}\nafter {run.line()}\n{how_to_replay(path, case)}"
    raise AssertionError("a run ends by an exception only")
