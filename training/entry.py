"""What the entry points share once a command line is parsed: load, train, say how it went. Bad input is one
sentence and exit status 2."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from arbitor.kernels.writing import write_whole
from arbitor.ranks import Ranks, end_ranks, start_ranks
from arbitor.refusal import USAGE_ERROR, end_silently, refuse, refuse_once, sentence_of, speaks

from .keeping import TROUBLE, TrainingFailed, console
from .loop import Trainer, prepared
from .metrics import Result
from .options import Options
from .settings.flags import Asked
from .settings.recorded import completed
from .tasks.denoising import DiffusionTask
from .tasks.image_tasks import VisionTask
from .tasks.sound import AudioTask
from .tasks.task import Task, TextTask

FAILED, INTERRUPTED = 1, 130
TASKS: dict[str, type[Task]] = {task.kind: task for task in (TextTask, AudioTask, VisionTask, DiffusionTask)}


def run(asked: Asked) -> int:
    """Run what a command line asks for; gives the exit status, as `Command.main` has it."""
    ranks = None
    try:
        console.quiet = not speaks()  # one of several ranks does
        ranks = start_ranks(asked.options.device)
        with _begun(asked, ranks) as (task, trainer):
            result, options = trainer.run(), trainer.options
            report(options, task, result)
            if options.report is not None and not console.quiet:
                write_report(options.report, task, result)
    except TrainingFailed as error:
        status = FAILED if error.begun else USAGE_ERROR
        if not str(error):  # it only stops with another
            return end_silently(status)
        refuse(str(error) if not console.quiet else f"rank {os.environ['RANK']}: {error}")
        return status
    except TROUBLE as error:
        return refuse_once(sentence_of(error))
    finally:
        end_ranks()
    return INTERRUPTED if result.interrupted else 0


@contextmanager
def _begun(asked: Asked, ranks: Ranks | None) -> Iterator[tuple[Task, Trainer]]:
    """The data and a run on them that can begin, on all ranks. Raises on all of them the first one's reason
    if one cannot."""
    with ExitStack() as held:
        reason = ""
        try:
            options = completed(asked)
            task = TASKS[asked.kind].of(options)
            for skipped in task.skipped:
                console.print(f"skipped {skipped}", style="yellow", markup=False)
            for note in task.notes:
                console.print(note, markup=False)
            trainer = held.enter_context(prepared(options, task, ranks))
        except TROUBLE as error:
            reason = sentence_of(error)
        for rank, text in enumerate([reason] if ranks is None else ranks.texts(reason)):
            if text:
                raise ValueError(f"rank {rank}: {text}" if rank else text)
        yield task, trainer


def _last(values: Sequence[float], unit: str, interval: int) -> str:
    """The last of what this process has measured every `interval` steps, or why there is none."""
    if values:
        return f"{values[-1]:.4f} {unit}"
    return "none in these steps" if interval else "not asked for"


def report(options: Options, task: Task, result: Result) -> None:
    """How the run ended, a line each; none is broken, so that a hash or a path can be copied."""
    rows: list[tuple[str, str]] = [
        ("corpus", f"{task.name}, {task.size}"),
        ("steps", f"{result.steps} of {options.steps} in {result.seconds:.1f} s"),
        ("loss", _last(result.losses, task.unit, options.log_interval)),
        ("validation", _last(result.valid, task.unit, options.eval_interval)),
        *((name, f"{value:.4f}") for name, value in result.measures.items()),
        *((f"experts of block {block}", shares_text(use)) for block, use in enumerate(result.experts)),
        (task.guess_name, f"{task.guess:.4f} {task.unit}"),
        ("trainable float parameters", f"{result.float_parameters:,}"),
        (
            "updates skipped",
            str(len(result.skipped)) + (f", first: {result.skipped[0]}" if result.skipped else ""),
        ),
    ]
    if not options.no_save:
        rows.append(("files", str(options.runs / options.run)))
    width = max(len(name) for name, _ in rows)
    console.print(f"{options.run}: {result.name}", style="bold", markup=False, highlight=False)
    for name, value in rows:
        console.print(f"  {name:{width}}  {value}", markup=False, highlight=False)
    console.print(f"state sha256 {result.digest}", highlight=False)  # 77 characters
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
    """`result` and its data as JSON, whole or not at all; a loss that is not finite is null. Raises
    TrainingFailed for a path that cannot be written any more."""
    record = dataclasses.asdict(result) | {"corpus": {"name": task.name, "sha256": task.sha256}}
    for name in ("losses", "valid"):
        record[name] = [loss if math.isfinite(loss) else None for loss in record[name]]
    try:
        write_whole(path, (json.dumps(record, indent=2, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise TrainingFailed(f"--report {sentence_of(error)}; the run is at its end", begun=True) from error
