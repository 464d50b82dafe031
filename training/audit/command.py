"""`arbitor audit`: whether a run is what it has recorded.

Exit status: 0 where everything agrees, 1 where something does not, 2 for what cannot be looked at.
"""

from __future__ import annotations

import random
import re
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
        if where.threads is not None and where.threads < 1:
            raise ValueError(f"--threads must be at least 1, got {where.threads}")
        record = read_record(folder)
        with replaying(folder, record, where) as replay:
            wanted = _wanted(record, replay, steps, count, seed)
            print(
                f"{folder}: steps {record.first} to {record.last} of {replay.steps}, made by {record.made_by}"
            )
            if record.torn:
                print("the record ends in half a line, which is left out")
            print(f"made again by {replay.made_by}")
            found = _data(record, replay) or _checkpoints(record, replay) or _updates(record, replay, wanted)
            if found:
                print(*found, sep="\n")
                return DIFFER
            updates = "1 update" if len(wanted) == 1 else f"{len(wanted)} updates"
            print(f"every digest agrees: {len(record.names)} tensors, {updates} asked for")
            return AGREE
    except TROUBLE as error:
        return refuse(sentence_of(error))


def _wanted(
    record: Record, replay: Replay, steps: str | None, count: int | None, seed: int | None
) -> list[int]:
    """The steps behind the updates that are asked for, all without. Raises ValueError for one that the run
    has not, or that cannot be made again."""
    every = [step for step in record.lines if step > record.first]
    if not every:
        raise ValueError(f"{record.path} has no update, only the state of step {record.first}")
    if seed is not None and count is None:
        raise ValueError("--seed goes with --random")
    if steps is not None:
        every = _asked(steps, every)
    made = [step for step in every if replay.sources(step - 1)]
    if count is not None:
        if not 1 <= count <= len(made):
            raise ValueError(f"--random must be in 1..{len(made)}, the updates that can be made, got {count}")
        seed = random.randrange(2**32) if seed is None else seed
        drawn = sorted(random.Random(seed).sample(made, count))
        print(f"drawn with --seed {seed}: {', '.join(map(str, drawn))}")
        return drawn
    if made != every:
        later = (
            f"those from {made[0]} on can: --steps {made[0]}..{every[-1]}" if made else "nor any later one"
        )
        raise ValueError(
            f"step {every[0]} cannot be made again: the beginning of a finetuning is in no other file, and "
            f"no checkpoint before it was kept; {later}"
        )
    return every


def _asked(steps: str, every: Sequence[int]) -> list[int]:
    """Those of `--steps`. Raises ValueError for what is none."""
    found = re.fullmatch(r"([0-9]+)(?:\.\.([0-9]+))?", steps)
    if found is None:
        raise ValueError(f"--steps must be N or N..M, got {steps!r}")
    first, last = int(found[1]), int(found[2] or found[1])
    if first > last:
        raise ValueError(f"--steps {steps}: the end is before the beginning")
    chosen = [step for step in every if first <= step <= last]
    if not chosen or first < every[0] or last > every[-1]:
        raise ValueError(f"--steps {steps}: the run has updates of {every[0]} to {every[-1]}")
    return chosen


def _data(record: Record, replay: Replay) -> list[str]:
    """Where the data are not those of the run, the first update whose batch they change. Where they change
    none it is said, and no difference."""
    if replay.other_data is None:
        return []
    for line in record.lines.values():
        if line.batch is not None and replay.batch(line.step) != line.batch:
            return [f"step {line.step}: batch differs: {replay.other_data}; --data PLACE names others"]
    print(f"{replay.other_data}; every batch of the run is in them")
    return []


def _checkpoints(record: Record, replay: Replay) -> list[str]:
    """The first checkpoint whose state is not the recorded one."""
    compared = 0
    for path, checkpoint in replay.files():
        if checkpoint.step not in record.lines:
            print(f"{path} is of step {checkpoint.step}, which is not in the record: not compared")
            continue
        wrong = first_difference(replay.line_of(checkpoint), record.lines[checkpoint.step].state_alone)
        if wrong is not None:
            return [f"step {checkpoint.step}: {path} is not the state that was recorded: {wrong}"]
        compared += 1
    states = "1 checkpoint has" if compared == 1 else f"{compared} checkpoints have"
    print(f"{states} the state that was recorded")
    if replay.keeps_kv_state:
        print("KV state is in no checkpoint, so the run is made again from its beginning")
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
        if line.step < record.first:  # a record that --new-metrics began
            continue
        recorded = record.lines[line.step]  # a record has no gaps, and what is asked for is in it
        wrong = first_difference(line.state_alone if recorded.batch is None else line, recorded, losses)
        if wrong is not None:
            return [f"step {line.step}: {wrong} differs", *_elements(replay)]
    return []


def _stretches(replay: Replay, wanted: Iterable[int]) -> list[tuple[int, list[int]]]:
    """The wanted steps by the step from which each is made again: the nearest checkpoint before it, or what
    is made for another wanted step anyway."""
    found: list[tuple[int, list[int]]] = []
    for step in wanted:
        sources = replay.sources(step - 1)
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
