"""What a run is made of: one frozen record of all settings, what each may be, and which a resumed run keeps.

Nothing here needs torch, so that a command line can be refused, and its help shown, at once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, get_args, get_type_hints

from arbitor.kernels.operations import RULES, SCALAR_RANGES
from arbitor.kernels.reading import said
from arbitor.schedule import COOLDOWN, Q16, UpdateRule

DEFAULTS = UpdateRule()
FOLDS = 5  # that images are cut into

# what a flag takes that names one of a few
CHOICES: dict[str, tuple[Any, ...]] = {
    "accumulate": ("updates", "exact"),
    "baseline": ("ste", "float"),
    "checkpoint_format": ("2bit", "dense"),
    "control": ("frozen",),
    "dtype": ("float32", "bfloat16"),
    "fold": tuple(range(FOLDS)),
    "image_channels": (1, 3),
    "vote_rule": tuple(RULES),
}


@dataclass(frozen=True)
class Options:
    """Everything that a run is made of. Fields are the flags; `gain` and `scale_gain` are real numbers
    here."""

    text_data: str | None = None
    audio_data: str | None = None
    frame: int = 16
    image_data: str | None = None
    image_side: int = 8
    image_channels: int = 1
    patch: int = 2
    fold: int = 0
    augment: bool = False
    times: int = 64
    samples: Path | None = None
    init: Path | None = None
    steps: int = 600
    batch: int = 16
    ctx: int = 64
    accum: int = 1
    accumulate: str = "updates"
    max_moe_iters: int = 1
    no_save: bool = False
    log_interval: int = 10
    eval_interval: int = 100
    save_interval: int = 100
    keep_interval: int = 0
    accum_threshold: int = DEFAULTS.accum_threshold
    e_accum_threshold: int = DEFAULTS.e_accum_threshold
    preserve_state: bool = False
    run: str = "pretrain"
    runs: Path = Path("runs")
    backend: str | None = None
    seed: int = 0
    d_model: int = 128
    layers: int = 2
    heads: int = 4
    window: int | None = None
    group_size: int = 128
    experts: int = 0
    top_k: int = 2
    balance: float = 0.01
    gain: float = DEFAULTS.gain / Q16
    cooldown: int = COOLDOWN
    vote_max: int = DEFAULTS.vote_max
    vote_rule: str = DEFAULTS.rule
    scale_gain: float = DEFAULTS.scale_gain / Q16
    control: str | None = None
    baseline: str | None = None
    dtype: str = "float32"
    lr: float = 4e-3
    weight_decay: float = 0.0
    device: str = "auto"
    threads: int | None = None
    resume: bool = False
    checkpoint_format: str = "2bit"
    eval_batches: int = 20
    report: Path | None = None
    new_metrics: bool = False

    # Every field is in one of three lists. These may differ between a run and its continuation: where it
    # runs, what it writes and how often.
    MAY_DIFFER: ClassVar[tuple[str, ...]] = (
        *("resume", "new_metrics", "device", "threads", "backend", "no_save", "runs", "run", "report"),
        "keep_interval",
        *("save_interval", "checkpoint_format", "init", "samples"),
    )
    # Where the data are. A run keeps it, to go on without being told; what counts is what is found there, by
    # its name and its hash.
    SOURCES: ClassVar[tuple[str, ...]] = ("text_data", "audio_data", "image_data")
    # These decide the numbers of a run, in which ARB-TRAIN-002 has a resumed one agree.
    MUST_AGREE: ClassVar[tuple[str, ...]] = (
        *("frame", "image_side", "image_channels", "patch", "fold", "augment", "times"),
        *("steps", "batch", "ctx", "accum", "accumulate", "preserve_state", "seed"),
        *("log_interval", "eval_interval", "eval_batches"),
        *("d_model", "layers", "heads", "window", "group_size"),
        *("experts", "top_k", "max_moe_iters", "balance"),
        *("gain", "cooldown", "vote_max", "vote_rule", "scale_gain", "accum_threshold", "e_accum_threshold"),
        *("control", "baseline", "dtype", "lr", "weight_decay"),
    )
    # A run keeps these beside, and goes on with them where nothing else is given.
    CARRIED: ClassVar[tuple[str, ...]] = (*SOURCES, "keep_interval")

    def identity(self) -> dict[str, Any]:
        """What a checkpoint keeps of them, as JSON: what decides the numbers of a run, in which a resumed run
        must agree, and where the data were."""
        kept = (*self.MUST_AGREE, *self.CARRIED)
        return {name: value for name, value in dataclasses.asdict(self).items() if name in kept}

    def outputs(self) -> dict[str, Path]:
        """Files that are written outside of the run's folder, by their flags."""
        named = {"--report": self.report, "--samples": self.samples}
        return {flag: path for flag, path in named.items() if path is not None}

    def refuse_own_files(self, files: Iterable[str]) -> None:
        """Raise ValueError if an output is one of these files of the run's folder, which would be lost, or
        another output."""
        taken = {(self.runs / self.run / file).resolve(): "a file of the run itself" for file in files}
        for flag, path in self.outputs().items():
            what = taken.setdefault(path.resolve(), f"what {flag} writes")
            if what != f"what {flag} writes":
                raise ValueError(f"{flag} {path} is {what}, and would replace it")


def flag(name: str) -> str:
    """The flag of a field."""
    return f"--{name.replace('_', '-')}"


def recorded(found: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Those of `names` that a checkpoint's options have. Raises ValueError for a value of another type."""
    hints = get_type_hints(Options)
    values = {name: found[name] for name in names if name in found}
    for name, value in values.items():
        types = get_args(hints[name]) or (hints[name],)
        if type(value) not in types and not (float in types and type(value) is int):
            expected = " or ".join("null" if kind is type(None) else kind.__name__ for kind in types)
            raise ValueError(f"its options.{name} is {said(value)}, expected {expected}")
    return values


def value_problem(options: Options) -> str | None:
    """What is wrong with one value alone, or with what --resume goes with: a sentence, or None."""
    for name in (
        *("steps", "batch", "ctx", "accum", "d_model", "layers", "heads", "eval_batches", "max_moe_iters"),
        *("frame", "image_side", "patch", "times"),
    ):
        if getattr(options, name) < 1:
            return f"{flag(name)} must be at least 1, got {getattr(options, name)}"
    for name in ("log_interval", "eval_interval", "save_interval", "keep_interval", "experts"):
        if getattr(options, name) < 0:
            return f"{flag(name)} must be 0 or more, got {getattr(options, name)}"
    for name in ("accum_threshold", "e_accum_threshold", "vote_max", "seed", "group_size"):
        lowest, highest = SCALAR_RANGES[name]
        if not lowest <= getattr(options, name) <= highest:
            return f"{flag(name)} must be in {lowest}..{highest}, got {getattr(options, name)}"
    for name in ("gain", "scale_gain"):
        highest = SCALAR_RANGES[name][1]
        if not 0 <= getattr(options, name) * Q16 <= highest:
            return f"{flag(name)} must be in 0..{highest // Q16}, got {getattr(options, name)}"
        if getattr(options, name) and not round(getattr(options, name) * Q16):
            return f"{flag(name)} is in steps of 1/{Q16}, so {getattr(options, name)} would be 0"
    if not 1 <= options.cooldown <= 100:
        return f"--cooldown must be in 1..100, got {options.cooldown}"
    for name, choices in CHOICES.items():  # argparse has seen what was given, a checkpoint may hold anything
        value = getattr(options, name)
        if value not in (*choices, getattr(Options, name)):
            return f"{flag(name)} must be one of {', '.join(map(str, choices))}, got {said(value)}"
    if options.group_size % 4:
        return f"--group-size must be a multiple of 4, got {options.group_size}"
    if not 0 <= options.balance < math.inf:
        return f"--balance must be 0 or more, got {options.balance}"
    if options.new_metrics and not options.resume:
        return "--new-metrics goes with --resume: a run that starts anew has new metrics"
    if options.keep_interval and options.no_save:
        return "--keep-interval keeps checkpoints, --no-save excludes it"
    if options.resume and options.preserve_state:
        return "--resume cannot go on from --preserve-state: KV state is in no checkpoint"
    return None


def problem(options: Options) -> str | None:
    """What is wrong with the options, also with one beside another: a sentence, or None."""
    alone = value_problem(options)
    if alone is not None:
        return alone
    if options.accumulate == "exact" and options.steps % options.accum:
        return f"--accumulate exact: --steps {options.steps} is no multiple of --accum {options.accum}"
    if options.experts and not 1 <= options.top_k <= options.experts:
        return f"--top-k must be in 1..experts, got {options.top_k} of {options.experts} experts"
    if options.experts and options.accumulate == "exact" and options.balance:
        return "--accumulate exact needs --balance 0: how even a microbatch is says nothing about the batch"
    if options.dtype != "float32" and not options.baseline:
        return "--dtype is of a --baseline: a ternary model multiplies integers, and has no other dtype"
    if options.control and options.baseline:
        return "--control and --baseline exclude each other"
    return None
