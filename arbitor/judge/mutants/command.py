"""`arbitor mutants`: run the catalogue in the lanes of one device, keep the results, show the score."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from arbitor.judge.provenance import machine, source
from arbitor.judge.seal import sealed
from arbitor.judge.suite import find_suite
from arbitor.kernels.plain import plain
from arbitor.kernels.writing import write_whole
from arbitor.refusal import refuse

from . import general, score
from .catalogue import GENERAL, SETS, CatalogueRefused, Mutant, load
from .run import BROKEN, KILLED, TIMED_OUT, LaneRun, Result, default_workers, lane_of

console = Console()


@dataclass(frozen=True)
class Options:
    """What was asked for: `sets` and the text `only` choose mutants, `one_per_clause` takes the first of
    each clause and of each kind of a set that runs on the device; `results` are files that the score has
    beside what is run now.
    """

    sets: tuple[str, ...]
    only: str
    one_per_clause: bool
    device: str
    workers: int
    seconds: float
    out: Path
    resume: bool
    page: Path | None
    results: tuple[Path, ...]
    run: bool = True


def mutants(options: Options) -> int:
    """Exit status 0 if every mutant is dead, equivalent, explained or of code that another device runs; 1 if
    not; 2 with one sentence if the catalogue or a file of results cannot be used."""
    try:
        suite = find_suite()
        root = suite.parent
        if not (root / "pyproject.toml").is_file():
            raise CatalogueRefused(f"mutants are made from a checkout, and {root} is none")
        catalogue = _catalogue(suite / "mutants", root, options.sets)
        earlier = [score.read(path) for path in options.results]
        kept = score.read(options.out) if options.run and options.resume and options.out.exists() else None
        chosen = _chosen(catalogue, options)
    except (CatalogueRefused, RuntimeError) as error:
        return refuse(str(error))
    records = list(earlier)
    if options.run:
        log = Log(options.out, kept or {"format": score.FORMAT, "lanes": {}, "mutants": {}})
        try:
            for name in options.sets:
                _run_set(name, [m for m in chosen if m.set == name], options, root, log)
        except KeyboardInterrupt:
            console.print(f"interrupted; --resume goes on from {options.out}")
            return 130
        except RuntimeError as error:
            return refuse(str(error))
        records.append(log.record)
    shown = catalogue if not options.run else chosen
    cases = score.judged(shown, records)
    wrong = [case for case in cases if case.wrong or (options.run and case.idle(options.device))]
    _show(cases, wrong)
    if options.page is not None:
        write_whole(options.page, score.page(score.judged(catalogue, records), records).encode())
    return int(bool(wrong))


def _catalogue(folder: Path, root: Path, sets: Sequence[str]) -> list[Mutant]:
    found = load(folder, root, [name for name in sets if name != GENERAL])
    return found + (general.mutants(root, folder) if GENERAL in sets else [])


def _chosen(catalogue: Sequence[Mutant], options: Options) -> list[Mutant]:
    found = [m for m in catalogue if m.set in options.sets and options.only in m.id]
    if options.one_per_clause:
        found = _one_of_each(
            [m for m in found if not (m.equivalent or m.explained or m.lacks(options.device))]
        )
    if not found:
        raise CatalogueRefused(f"no mutant of {', '.join(options.sets)} has {options.only!r} in its id")
    return found


def _one_of_each(mutants: Sequence[Mutant]) -> list[Mutant]:
    """The first of each set and clause, and of each set and kind that is not among these."""
    found: dict[str, Mutant] = {}
    for what in ("clause", "kind"):
        there = {(m.set, getattr(m, what)) for m in found.values()}
        for mutant in mutants:
            if (mutant.set, getattr(mutant, what)) not in there:
                there.add((mutant.set, getattr(mutant, what)))
                found[mutant.id] = mutant
    return list(found.values())


class Log:
    """The file of results; it is whole after every mutant, so that an interrupted run can go on."""

    def __init__(self, path: Path, record: dict[str, Any]) -> None:
        self.path, self.record = path, record

    def begin(self, lane: str, root: Path) -> None:
        """Note with what a lane runs."""
        self.record["lanes"][lane] = {
            "command": shlex.join(["arbitor", *sys.argv[1:]]),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "source": source(root),
        }

    def has(self, mutant: Mutant, lane: str) -> bool:
        """Whether this edit is known to be killed; what has survived may not survive the tests of today."""
        entry = self.record["mutants"].get(mutant.id, {})
        if entry.get("digest") != mutant.digest:
            return False
        return entry["results"].get(lane, {}).get("outcome") in (KILLED, TIMED_OUT)

    def add(self, mutant: Mutant, lane: str, result: Result) -> None:
        """Keep a result."""
        entry = self.record["mutants"].get(mutant.id, {})
        if entry.get("digest") != mutant.digest:
            entry = {"digest": mutant.digest, "clause": mutant.clause, "results": {}}
            self.record["mutants"][mutant.id] = entry
        entry["results"][lane] = result.as_record()
        self.record = sealed(self.record)
        write_whole(self.path, score.as_text(self.record).encode())


def _run_set(name: str, chosen: Sequence[Mutant], options: Options, root: Path, log: Log) -> None:
    lane = lane_of(name, options.device)
    todo = [mutant for mutant in chosen if not log.has(mutant, lane.name)]
    if not todo:
        return
    log.begin(lane.name, root)
    workers = min(options.workers or default_workers(options.device), len(todo))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    killers: dict[str, list[tuple[Mutant, Result]]] = {}
    with (
        LaneRun(lane, root, workers, options.seconds) as run,
        Progress(*columns, console=console, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task(lane.name, total=len(todo))

        def done(mutant: Mutant, result: Result) -> None:
            log.add(mutant, lane.name, result)
            bar.advance(task)
            if result.outcome == KILLED and result.test:
                killers.setdefault(result.test, []).append((mutant, result))
            words = f"{result.test or result.message}  {result.seconds:.0f} s"
            line = f"{result.outcome:>9}  {mutant.id}  {words}"
            bar.console.print(plain(line), highlight=False, markup=False, soft_wrap=True)

        run.run(todo, done)
        for test in run.control(list(killers)):
            for mutant, result in killers.get(test, ()):
                message = f"{test} fails without the edit too"
                log.add(mutant, lane.name, Result(BROKEN, test, message, result.seconds))


def _show(cases: Sequence[score.Judged], wrong: Sequence[score.Judged]) -> None:
    for case in wrong:
        what = f"{case.mutant.clause}: {case.mutant.why} {case.result.message}"
        line = f"{case.kind}: {case.mutant.id} on {case.lane}: {what}"
        console.print(plain(line), style="red", markup=False, highlight=False, soft_wrap=True)
    table = Table("lane", "score", "killed", "survived", "not run", "equivalent", title="mutants")
    for lane in sorted({case.lane for case in cases}):
        found = score.score(case for case in cases if case.lane == lane)
        lived = found.counts.total() - found.killed - found.counts["not run"] - found.counts[score.ALIVE]
        numbers = (found.killed, lived, found.counts["not run"], found.counts[score.ALIVE])
        table.add_row(plain(lane), found.percent, *map(str, numbers))
    console.print(table)


def options_of(given: Any) -> Options:
    """The options from what argparse found."""
    return Options(
        tuple(given.set or SETS),
        given.only,
        given.one_per_clause,
        given.device,
        given.workers,
        given.seconds,
        given.out,
        given.resume,
        given.page,
        tuple(given.results),
        not given.score,
    )
