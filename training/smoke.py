"""Does it train? Short runs and one that learns, judged by recorded bands.   python -m training.smoke

`--every-backend` asks another question: do both trainers run on each backend that needs no GPU, to the same
losses and state hash as on the reference (ARB-TRAIN-001)? Its runs are small, for Triton's interpreter, and
a backend that cannot run here fails: it is not left out.

Each run is the real command line in a process of its own. The short ones go on the NumPy reference and on
torch, both on the CPU, and must agree in every loss and in the state hash (ARB-TRAIN-001). The learning run
goes on what `auto` takes and must end in its band, below the unigram entropy of its corpus, and far below a
control with frozen trits (ARB-TRAIN-003). All have one thread: two would save a quarter of the time on a
calm machine and cost a multiple on a busy one. Exit status 1 if anything is wrong, with one sentence for
each at the end, and how many passed.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from arbitor.conformance.training.bands import (
    RUNS,
    Band,
    Report,
    Verdict,
    against_control,
    judge,
    load_bands,
    same_trajectory,
)
from arbitor.conformance.training.launch import RunFailed, launch
from arbitor.refusal import Parser, refuse

# Nothing of a frozen model changes, so its validation is the same after 20 steps as after all of them.
CONTROL = ("--control", "frozen", "--steps", "20", "--log-interval", "2", "--eval-interval", "20")
SMALL = ("pretrain-small", "text-small")
SHORT = ("reference", "torch")
EVERY = (*SHORT, "triton", "tilelang")
MEANING = {"losses": "mean", "valid": "last"}
console = Console(width=None if sys.stdout.isatty() else 120)


@dataclass(frozen=True)
class Line:
    """One row of the table: a run, where it ran, what it reported (None if it failed), and what was found."""

    name: str
    backend: str
    report: Report | None
    verdict: Verdict
    seconds: float

    def also(self, problems: Sequence[str]) -> Line:
        """The same with further problems."""
        return replace(self, verdict=replace(self.verdict, problems=(*self.verdict.problems, *problems)))


def run_line(places: Iterator[str], name: str, run: str, band: Band | None, *extra: str) -> Line:
    """Start `run` with `extra` flags, wait for it, judge it. Triton, asked for, is its interpreter.

    A terminal shows what runs; elsewhere a line does, with the next of `places`.
    """
    backend = extra[extra.index("--backend") + 1] if "--backend" in extra else "auto"
    environment = {"TRITON_INTERPRET": "1"} if backend == "triton" else {}
    started, place = time.monotonic(), next(places)
    if not sys.stdout.isatty():
        print(f"{place} {name} on {backend}", flush=True)
    with console.status(f"{name} on {backend}"):
        try:
            report = launch(RUNS[run], *extra, "--threads", "1", environment=environment)
        except RunFailed as error:
            verdict = Verdict(run, math.nan, band, (str(error),))
            return Line(name, backend, None, verdict, time.monotonic() - started)
    return Line(name, report["backend"], report, judge(run, report, band), time.monotonic() - started)


def short_lines(places: Iterator[str], name: str, band: Band, backends: Sequence[str] = SHORT) -> list[Line]:
    """A short run on those backends; each line after the first has its differences from that."""
    lines = [
        run_line(places, name, name, band, "--backend", backend, "--device", "cpu") for backend in backends
    ]
    first = lines[0].report
    for place, line in enumerate(lines[1:], 1):
        if first is not None and line.report is not None:
            lines[place] = line.also(same_trajectory(first, line.report))
    return lines


def learning_lines(places: Iterator[str], band: Band) -> list[Line]:
    """The learning run and its control; the learning run says if it is not far below."""
    learning = run_line(places, "learning", "learning", band)
    frozen = run_line(places, "frozen", "learning", None, *CONTROL)
    if math.isfinite(learning.verdict.value) and math.isfinite(frozen.verdict.value):
        learning = learning.also(against_control(learning.verdict.value, frozen.verdict.value))
    return [learning, frozen]


def table_of(lines: Sequence[Line]) -> Table:
    """What every run measured and how it was judged."""
    table = Table(title="smoke: losses in nats a byte", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("run", "backend", "training", "validation", "judged", "floats", "seconds", "verdict"):
        table.add_column(heading, justify="right" if heading in ("floats", "seconds") else "left")
    for line in lines:
        band, measure = line.verdict.band, RUNS[line.verdict.run].measure
        table.add_row(
            line.name,
            line.backend,
            *_losses(line.report),
            f"{MEANING[measure]} {line.verdict.value:.3f} in {band.low:.3f}..{band.high:.3f}" if band else "",
            "" if line.report is None else f"{line.report['float_parameters']:,}",
            f"{line.seconds:.0f}",
            Text("passed", "green") if line.verdict.passed else Text("FAILED", "bold red"),
        )
    return table


def _losses(report: Report | None) -> tuple[str, str]:
    if report is None:
        return "", ""
    training, validation = (
        ["nan" if loss is None else f"{loss:.3f}" for loss in report[name]] for name in ("losses", "valid")
    )
    ends = dict.fromkeys([*training[:1], *training[-1:]])
    return " -> ".join(ends), "".join(validation[-1:])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything, print the table, and what is wrong."""
    parser = Parser(prog="python -m training.smoke", description="Train a little and say whether it learns.")
    parser.add_argument(
        "--every-backend", action="store_true", help=f"small runs on {', '.join(EVERY)}, and no other runs"
    )
    every = parser.parse_args(arguments).every_backend
    started = time.monotonic()
    try:
        bands = load_bands()
    except ValueError as error:
        return refuse(str(error))
    total = len(SMALL) * len(EVERY) if every else 2 * len(SHORT) + 2
    places = (f"{number}/{total}" for number in range(1, total + 1))
    if every:
        lines = [line for name in SMALL for line in short_lines(places, name, bands[name], EVERY)]
    else:
        lines = [
            *short_lines(places, "pretrain", bands["pretrain"]),
            *short_lines(places, "text", bands["text"]),
            *learning_lines(places, bands["learning"]),
        ]
    console.print(table_of(lines))
    for note in notes(lines):
        console.print(Text(note))
    console.print(f"{time.monotonic() - started:.0f} s in all")
    problems = [f"{line.name} on {line.backend}: {text}." for line in lines for text in line.verdict.problems]
    for problem in problems:
        console.print(Text(problem, "red"))
    passed = sum(line.verdict.passed for line in lines)
    console.print(
        f"{'something is wrong' if problems else 'everything is right'}: {passed} of {total} runs passed"
    )
    return 1 if problems else 0


def notes(lines: Sequence[Line]) -> list[str]:
    """What the table does not say."""
    found = [
        "judged: the mean of the logged losses, or the last validation, against "
        "conformance/training/bands.json; "
        "floats: trainable float parameters."
    ]
    if any(line.name == "frozen" for line in lines):
        found[0] += " The control takes 20 steps only: a frozen model does not change."
    learning = next((line.report for line in lines if line.name == "learning"), None)
    if learning is not None:
        found.append(
            f"The learning run went on {learning['backend']} ({learning['reason']}); its corpus, "
            f"{learning['corpus']['name']}, has a unigram entropy of {learning['guess']:.3f}."
        )
    return found


if __name__ == "__main__":
    sys.exit(main())
