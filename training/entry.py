"""What the entry points share: parse, load, train, say how it went. Bad input is one sentence and exit
status 2."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from arbitor.checkpoint import write_whole
from arbitor.ranks import end_ranks, start_ranks

from .loop import Result, console, train
from .options import Options, parse
from .tasks.task import Task, TextTask

INTERRUPTED = 130


def main(
    description: str,
    arguments: Sequence[str] | None = None,
    kind: type[Task] = TextTask,
    finetuning: bool = False,
    **defaults: Any,
) -> int:
    """Run one trainer, of that kind of task, from the command line; gives the exit status."""
    options = parse(description, arguments, kind.kind, finetuning, **defaults)
    try:
        ranks = start_ranks(options.device)
        if ranks is not None and ranks.rank:
            console.quiet = True  # one of them speaks
        task = kind.of(options)
        for skipped in task.skipped:
            console.print(f"skipped {skipped}", style="yellow", markup=False)
        result = train(options, task, ranks)
    except (ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        end_ranks()
    report(options, task, result)
    if options.report is not None and (ranks is None or ranks.rank == 0):
        write_report(options.report, task, result)
    return INTERRUPTED if result.interrupted else 0


def report(options: Options, task: Task, result: Result) -> None:
    """A short table of how the run ended."""
    table = Table(title=f"{options.run}: {result.name}", show_header=False, title_justify="left")
    table.add_column()
    table.add_column(overflow="fold")  # the whole hash, however narrow the terminal
    rows: list[tuple[str, str]] = [
        ("corpus", f"{task.name}, {task.size}"),
        ("steps", f"{result.steps} of {options.steps} in {result.seconds:.1f} s"),
        ("loss", f"{result.losses[-1]:.4f} {task.unit}" if result.losses else "not logged"),
        ("validation", f"{result.valid[-1]:.4f} {task.unit}" if result.valid else "not asked for"),
        *((name, f"{value:.4f}") for name, value in result.measures.items()),
        *((f"experts of block {block}", shares_text(use)) for block, use in enumerate(result.experts)),
        (task.guess_name, f"{task.guess:.4f} {task.unit}"),
        ("trainable float parameters", f"{result.float_parameters:,}"),
        (
            "updates skipped",
            str(len(result.skipped)) + (f", first: {result.skipped[0]}" if result.skipped else ""),
        ),
        ("state sha256", result.digest),
    ]
    for row in rows:
        table.add_row(*row)
    if not options.no_save:
        table.add_row("files", str(options.runs / options.run))
    console.print(table)
    if result.interrupted:
        console.print(
            "interrupted; the same command with --resume goes on from here"
            if not options.no_save
            else "interrupted"
        )


def shares_text(use: Mapping[str, Any]) -> str:
    """Passes of a block and the share of each of its experts."""
    shares = " ".join(f"{share:.0%}" for share in use["shares"])
    return f"{shares} of the choices, {use['iterations']:.2f} passes a token"


def write_report(path: Path, task: Task, result: Result) -> None:
    """`result` and its data as JSON, whole or not at all; a loss that is not finite is null."""
    record = dataclasses.asdict(result) | {"corpus": {"name": task.name, "sha256": task.sha256}}
    for name in ("losses", "valid"):
        record[name] = [loss if math.isfinite(loss) else None for loss in record[name]]
    write_whole(path, (json.dumps(record, indent=2, allow_nan=False) + "\n").encode())
