"""`arbitor audit`: whether a run is what it has recorded.

Exit status: 0 where everything agrees, 1 where something does not, 2 for what cannot be looked at.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.progress import Progress

from arbitor.refusal import refuse, sentence_of

from ..keeping import TROUBLE, console
from .elements import differences
from .record import Record, first_difference, read_record
from .replay import Replay, Where, replaying

AGREE, DIFFER = 0, 1


def audit(folder: Path, steps: str | None, count: int | None, seed: int | None, where: Where) -> int:
    """Make updates of a recorded run again and compare every digest; gives the exit status."""
    try:
        record = read_record(folder)
        with replaying(folder, record, where) as replay:
            wanted = _wanted(record, steps, count, seed)
            print(f"{folder}: steps {record.first} to {record.last}, made by {record.made_by}")
            print(f"made again by {replay.made_by}")
            found = _other_data(record, replay) or _checkpoints(record, replay)
            found = found or _updates(record, replay, wanted)
            if found:
                print(*found, sep="\n")
                return DIFFER
            print(f"every digest agrees: {len(record.names)} tensors, {len(wanted)} updates asked for")
            return AGREE
    except TROUBLE as error:
        return refuse(sentence_of(error))


def _wanted(record: Record, steps: str | None, count: int | None, seed: int | None) -> list[int]:
    """The steps behind the updates that are asked for, all without. Raises ValueError for none of the run."""
    every = [step for step in record.lines if step > record.first]
    if steps is not None:
        first, _, last = steps.partition("..")
        if not (first.isdecimal() and (last or first).isdecimal()):
            raise ValueError(f"--steps must be N or N..M, got {steps!r}")
        every = [step for step in every if int(first) <= step <= int(last or first)]
        if not every:
            raise ValueError(f"--steps {steps}: the run has updates of {record.first + 1} to {record.last}")
    if count is None:
        return every
    if count < 1:
        raise ValueError(f"--random must be at least 1, got {count}")
    return sorted(random.Random(seed).sample(every, min(count, len(every))))


def _other_data(record: Record, replay: Replay) -> list[str]:
    """Where the data are not those of the run, the first update whose batch they change."""
    if replay.same_data:
        return []
    for line in record.lines.values():
        if line.batch is not None and replay.batch(line.step) != line.batch:
            return [f"step {line.step}: batch differs: the data are not those of the run"]
    return ["the data are not those of the run (another sha256), but all of its batches are in them"]


def _checkpoints(record: Record, replay: Replay) -> list[str]:
    """The first kept checkpoint whose state is not the recorded one."""
    for step in replay.checkpoints:
        if step in record.lines:
            line = replay.line_of(replay.kept(step))
            wrong = first_difference(line, record.lines[step].state_alone)
            if wrong is not None:
                return [f"step {step}: the checkpoint is not the state that was recorded: {wrong}"]
    return []


def _updates(record: Record, replay: Replay, wanted: Sequence[int]) -> list[str]:
    """The first update that does not come out as it was recorded, and elements around it."""
    losses = record.by["ranks"] == 1  # of several the loss is summed from theirs, and rounded in between
    stretches = _stretches(replay, wanted)
    total = sum(start < step <= steps[-1] for start, steps in stretches for step in record.lines)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("updates", total=total)
        for start, steps in stretches:
            found = _stretch(record, replay, start, steps[-1], losses, lambda: bar.advance(task))
            if found:
                return found
            print(f"steps {start + 1} to {steps[-1]}: made again and the same")
    return []


def _stretch(
    record: Record, replay: Replay, start: int, end: int, losses: bool, made: Callable[[], None]
) -> list[str]:
    """The first update between two steps that does not come out as recorded; `made` is told of each."""
    line = replay.begin(start)
    if start in record.lines:
        wrong = first_difference(line, record.lines[start].state_alone)
        if wrong is not None:
            return [f"step {start}, where it begins: {wrong} differs"]
    while replay.step < end:
        line = replay.update()
        made()
        if line.step not in record.lines:
            return [f"step {line.step}: the record has no such line"]
        wrong = first_difference(line, record.lines[line.step], losses)
        if wrong is not None:
            return [f"step {line.step}: {wrong} differs", *_elements(replay)]
    return []


def _stretches(replay: Replay, wanted: Iterable[int]) -> list[tuple[int, list[int]]]:
    """The wanted steps by the step from which each is made again: the nearest checkpoint before it, or what
    is made for another wanted step anyway. Raises ValueError where there is none."""
    found: list[tuple[int, list[int]]] = []
    for step in wanted:
        sources = replay.sources(step - 1)
        if not sources:
            raise ValueError(
                f"step {step} cannot be made again: no checkpoint before it was kept (--keep-interval N)"
            )
        if found and found[-1][1][-1] >= sources[-1]:
            found[-1][1].append(step)
        else:
            found.append((sources[-1], [step]))
    return found


def _elements(replay: Replay) -> list[str]:
    """The replay's state beside the run's, where the run has kept one next."""
    later = [step for step in replay.checkpoints if step >= replay.step]
    if not later:
        return ["no later checkpoint was kept, so no elements can be shown (--keep-interval N)"]
    while replay.step < later[0]:
        replay.update()
    theirs = replay.kept(later[0]).tensors
    lines = differences(replay.state(), theirs)
    return [f"made again, and as the run has kept it, at step {later[0]}:", *(f"  {line}" for line in lines)]
