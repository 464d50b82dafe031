"""What the entry points share: parse, load, train, say how it went. Bad input is one sentence and exit
status 2."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from arbitor.checkpoint import write_whole

from .corpus import Corpus, load_corpus
from .loop import Result, console, train
from .options import Options, parse

INTERRUPTED = 130


def main(description: str, arguments: Sequence[str] | None = None, **defaults: Any) -> int:
    """Run one trainer from the command line; gives the exit status."""
    options = parse(description, arguments, **defaults)
    try:
        corpus = load_corpus(options.text_data)
        for skipped in corpus.skipped:
            console.print(f"skipped {skipped}", style="yellow", markup=False)
        result = train(options, corpus)
    except (ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report(options, corpus, result)
    if options.report is not None:
        write_report(options.report, corpus, result)
    return INTERRUPTED if result.interrupted else 0


def report(options: Options, corpus: Corpus, result: Result) -> None:
    """A short table of how the run ended."""
    table = Table(title=f"{options.run}: {result.name}", show_header=False, title_justify="left")
    table.add_column()
    table.add_column(overflow="fold")  # the whole hash, however narrow the terminal
    rows: list[tuple[str, str]] = [
        ("corpus", f"{corpus.name}, {len(corpus.train):,} + {len(corpus.valid):,} bytes"),
        ("steps", f"{result.steps} of {options.steps} in {result.seconds:.1f} s"),
        ("loss", f"{result.losses[-1]:.4f} nats a byte" if result.losses else "not logged"),
        ("validation", f"{result.valid[-1]:.4f} nats a byte" if result.valid else "not asked for"),
        ("unigram entropy", f"{result.unigram:.4f} nats a byte"),
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


def write_report(path: Path, corpus: Corpus, result: Result) -> None:
    """`result` and its corpus as JSON, whole or not at all; a loss that is not finite is null."""
    record = dataclasses.asdict(result) | {"corpus": {"name": corpus.name, "sha256": corpus.sha256}}
    for name in ("losses", "valid"):
        record[name] = [loss if math.isfinite(loss) else None for loss in record[name]]
    write_whole(path, (json.dumps(record, indent=2, allow_nan=False) + "\n").encode())
