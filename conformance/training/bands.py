"""Loss bands: where a run must end, recorded over seeds, and the judgement whether it did (ARB-TRAIN-003).

`RUNS` are the command lines that are judged. bands.json holds what several seeds of each ended in, and the
band around that. A band belongs to one command line: if that changes, the band is refused until it is
recorded anew (scripts/record_bands.py). Everything here is a pure function of what a trainer's `--report`
wrote, so a verdict can be tested without a run, and a judge that accepts everything is found.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Report = Mapping[str, Any]  # what training/entry.py writes for --report

BANDS = Path(__file__).with_name("bands.json")
SPREADS = 3  # sample standard deviations beyond the seeds' range
# Nats a byte beyond the range at least. The corpus is the documentation of the Python that runs, so it varies
# with its version; the learning run ended 0.05 lower when a twentieth of the topics was left out.
LEAST = 0.1
MARGIN_RULE = (
    "smallest - margin .. largest + margin over the seeds, "
    f"margin = max({SPREADS} sample standard deviations, {LEAST} nats a byte)"
)
MEASURES = {"losses": "mean training loss", "valid": "validation"}
_LOSSES = {"losses": "training losses", "valid": "validation losses"}
BELOW_CONTROL = 1.0  # nats a byte that learning is below frozen trits


@dataclass(frozen=True)
class Run:
    """A trainer's command line and which number of it is judged.

    `measure` is "losses" for the mean of the logged training losses, "valid" for the last validation.
    """

    script: str
    arguments: tuple[str, ...]
    measure: str

    @property
    def command(self) -> str:
        """The command line as one string, without the interpreter."""
        return " ".join([self.script, *self.arguments])

    def value(self, report: Report) -> float:
        """The judged number, nats a byte; NaN if a loss is not finite or none was measured."""
        losses = _floats(report[self.measure])
        if not losses:
            return math.nan
        return statistics.fmean(losses) if self.measure == "losses" else losses[-1]


def _run(script: str, measure: str, arguments: str) -> Run:
    return Run(script, tuple(arguments.split()), measure)


# The first two are the shortest uses of either trainer. The third learns: at its length, half a minute on two
# cores, losing every second update costs far more than another seed does. The small ones stand in for the
# first two where Triton's interpreter runs them, which takes many minutes for those.
_SMALL = "--d-model 16 --layers 1 --heads 2"
RUNS: dict[str, Run] = {
    "pretrain": _run(
        "training/pretrain.py",
        "losses",
        "--steps 20 --batch 1 --ctx 16 --accum 2 --max-moe-iters 1 --no-save --log-interval 2 "
        "--eval-interval 0 --save-interval 0",
    ),
    "text": _run(
        "training/text.py", "losses", "--steps 5 --batch 1 --ctx 16 --eval-interval 5 --run text-smoke"
    ),
    "learning": _run(
        "training/pretrain.py",
        "valid",
        "--steps 200 --batch 16 --ctx 64 --d-model 128 --layers 2 --heads 4 --no-save --log-interval 20 "
        "--eval-interval 200 --save-interval 0",
    ),
    "pretrain-small": _run(
        "training/pretrain.py",
        "losses",
        "--steps 4 --batch 1 --ctx 16 --accum 2 --max-moe-iters 1 --no-save --log-interval 2 "
        f"--eval-interval 0 --save-interval 0 {_SMALL}",
    ),
    "text-small": _run(
        "training/text.py",
        "losses",
        "--steps 3 --batch 1 --ctx 16 --eval-interval 3 --eval-batches 1 --log-interval 1 --run text-small "
        f"{_SMALL}",
    ),
}


@dataclass(frozen=True)
class Band:
    """Where `value` of a run lies over seeds, and the corpus on which that was measured."""

    low: float
    high: float
    values: tuple[float, ...]
    corpus: str


@dataclass(frozen=True)
class Verdict:
    """`value` beside its band; `problems` are sentences, none of them if the run passed."""

    run: str
    value: float
    band: Band | None
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return not self.problems


def band_of(values: Sequence[float], corpus: str) -> Band:
    """The band by MARGIN_RULE around the values of several seeds; ValueError for one, or one not finite."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
        raise ValueError(f"a band needs at least two finite values, got {list(values)}")
    margin = max(SPREADS * statistics.stdev(values), LEAST)
    return Band(min(values) - margin, max(values) + margin, tuple(values), corpus)


def load_bands(path: Path = BANDS) -> dict[str, Band]:
    """The recorded bands by run. ValueError if one is missing or belongs to another command line."""
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
    bands = {}
    for name, run in RUNS.items():
        entry = runs.get(name, {})
        if (entry.get("command"), entry.get("measure")) != (run.command, run.measure):
            raise ValueError(
                f"{path.name} has no band of the run {name!r} as it is now ({run.command}): "
                "record it with scripts/record_bands.py"
            )
        bands[name] = Band(entry["low"], entry["high"], tuple(entry["values"]), entry["corpus"])
    return bands


def judge(run: str, report: Report, band: Band | None) -> Verdict:
    """Judge one run: finite, nothing skipped, no float parameter, in `band`; learning: below unigram entropy.

    Without a band (a control) only the first three are asked for.
    """
    value = RUNS[run].value(report)
    skipped, floats = report["skipped"], report["float_parameters"]
    problems = [
        f"its {words} are not all finite" for which, words in _LOSSES.items() if not _finite(report[which])
    ]
    if not problems and math.isnan(value):
        problems.append("it measured no loss")
    if skipped:
        problems.append(f"{len(skipped)} of its updates were skipped, the first at {skipped[0]}")
    if floats:
        problems.append(f"it has {floats:,} trainable float parameters, expected 0")
    if band is not None and math.isfinite(value):
        problems += _against_band(RUNS[run], value, band, report)
    return Verdict(run, value, band, tuple(problems))


def _against_band(run: Run, value: float, band: Band, report: Report) -> list[str]:
    problems = []
    if not band.low <= value <= band.high:
        corpus = report["corpus"]["name"]
        elsewhere = f" (of {band.corpus}, this is {corpus})" if corpus != band.corpus else ""
        where = f"{band.low:.4f} .. {band.high:.4f}{elsewhere}"
        problems.append(f"{MEASURES[run.measure]} {value:.4f} is outside the band {where}")
    if run.measure == "valid" and value >= report["guess"]:
        problems.append(f"validation {value:.4f} is not below the unigram entropy {report['guess']:.4f}")
    return problems


def against_control(learned: float, control: float) -> tuple[str, ...]:
    """What speaks against a run that ended in `learned` when frozen trits end in `control`; both finite."""
    if learned < control - BELOW_CONTROL:
        return ()
    return (f"validation {learned:.4f} is not {BELOW_CONTROL} below that of frozen trits, {control:.4f}",)


def same_trajectory(first: Report, second: Report) -> tuple[str, ...]:
    """What speaks against two backends having taken the same steps (ARB-TRAIN-001): losses and state hash."""
    backends = f"{first['backend']} and {second['backend']}"
    digests = first["digest"][:12], second["digest"][:12]
    problems = [
        f"{name} differ between {backends}, first at number {index + 1}: {a} and {b}"
        for name in ("losses", "valid")
        for index, a, b in _first_difference(first[name], second[name])
    ]
    if first["digest"] != second["digest"]:
        problems.append(f"state hashes differ between {backends}: {digests[0]}... and {digests[1]}...")
    return tuple(problems)


def _first_difference(first: Sequence[Any], second: Sequence[Any]) -> list[tuple[int, Any, Any]]:
    length = max(len(first), len(second))
    padded = [(*values, *["nothing"] * (length - len(values))) for values in (first, second)]
    return [(index, a, b) for index, (a, b) in enumerate(zip(*padded, strict=True)) if a != b][:1]


def _floats(losses: Sequence[float | None]) -> list[float]:
    return [math.nan if loss is None else loss for loss in losses]


def _finite(losses: Sequence[float | None]) -> bool:
    return all(map(math.isfinite, _floats(losses)))
