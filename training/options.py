"""Command lines of the trainers: one set of flags, parsed into one frozen record."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from arbitor.kernels.operations import RULES, SCALAR_RANGES
from arbitor.ranks import speaks
from arbitor.refusal import USAGE_ERROR, Parser
from arbitor.schedule import UpdateRule

DEFAULTS = UpdateRule()
Q16 = 1 << 16


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

    # Every field is in one of two lists. These may differ between a run and its continuation: where it runs,
    # what it writes and how often.
    MAY_DIFFER: ClassVar[tuple[str, ...]] = (
        *("resume", "new_metrics", "device", "threads", "backend", "no_save", "runs", "run", "report"),
        *("save_interval", "checkpoint_format", "init", "samples"),
    )
    # These decide the numbers of a run, in which ARB-TRAIN-002 has a resumed one agree.
    MUST_AGREE: ClassVar[tuple[str, ...]] = (
        *("text_data", "audio_data", "frame", "image_data", "image_side", "image_channels", "patch"),
        *("augment", "times", "steps", "batch", "ctx", "accum", "accumulate", "preserve_state", "seed"),
        *("log_interval", "eval_interval", "eval_batches"),
        *("d_model", "layers", "heads", "window", "group_size"),
        *("experts", "top_k", "max_moe_iters", "balance"),
        *("gain", "vote_max", "vote_rule", "scale_gain", "accum_threshold", "e_accum_threshold"),
        *("control", "baseline", "dtype", "lr", "weight_decay"),
    )

    def identity(self) -> dict[str, Any]:
        """What decides the numbers of a run, as JSON; a resumed run must agree in all of it."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name in self.MUST_AGREE}

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


class _Flags(Parser):
    """Of several processes with one command line, one says what is wrong with it."""

    def error(self, message: str) -> NoReturn:
        if speaks():
            super().error(message)
        raise SystemExit(USAGE_ERROR)


def parse(
    description: str,
    arguments: Sequence[str] | None = None,
    data: str = "text",
    finetuning: bool = False,
    **defaults: Any,
) -> Options:
    """Parse a command line; `defaults` replaces the record's, `data` is the kind that the trainer reads,
    `finetuning` asks for --init. Exits with status 2 and a sentence on bad input."""
    base = dataclasses.replace(Options(), **defaults)
    parser = _Flags(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    _add_data_flags(parser, data)
    _add_loop_flags(parser)
    if finetuning:
        parser.add_argument(
            "--init", type=Path, metavar="CHECKPOINT",
            help="start from the tensors of this checkpoint that the model has too",
        )  # fmt: skip
    _add_model_flags(parser)
    parser.set_defaults(**{field.name: getattr(base, field.name) for field in dataclasses.fields(base)})
    options = Options(**vars(parser.parse_args(arguments)))
    problem = _problem(options) or (_init_problem(options) if finetuning else None)
    if problem:
        parser.error(problem)
    return options


def _add_data_flags(parser: argparse.ArgumentParser, kind: str) -> None:
    data = parser.add_argument_group("data")
    if kind == "text":
        data.add_argument(
            "--text-data", "--data", dest="text_data", metavar="SOURCE",
            help="a file, a folder, or 'tinyshakespeare' (fetched once); without it CPython's help topics",
        )  # fmt: skip
        data.add_argument("--ctx", type=int, help="bytes a sequence")
        data.add_argument(
            "--preserve-state", action="store_true",
            help="read on in the text and keep KV state between batches",
        )  # fmt: skip
    if kind == "audio":
        data.add_argument(
            "--audio-data", "--data", dest="audio_data", metavar="SOURCE",
            help="a sound file or a folder of WAV and FLAC; without it a melody that is synthesised here",
        )  # fmt: skip
        data.add_argument("--ctx", type=int, help="frames a window")
        data.add_argument("--frame", type=int, help="samples a frame")
    if kind in ("images", "diffusion"):
        _add_image_flags(data, kind)
    data.add_argument("--batch", type=int, help="sequences a microbatch")
    data.add_argument("--seed", type=int, help="of the model's bits and of the data order")


def _add_image_flags(data: argparse._ArgumentGroup, kind: str) -> None:
    data.add_argument(
        "--image-data", "--data", dest="image_data", metavar="FOLDER",
        help="images in one sub-folder a class; without it scikit-learn's digits",
    )  # fmt: skip
    data.add_argument("--image-side", type=int, help="pixels a side, to which a folder's images are scaled")
    data.add_argument("--image-channels", type=int, choices=(1, 3), help="grey or RGB")
    data.add_argument("--patch", type=int, help="pixels a side of a patch, which is one position")
    data.add_argument(
        "--augment", action=argparse.BooleanOptionalAction,
        help="move training images by up to a pixel each way",
    )  # fmt: skip
    if kind == "diffusion":
        data.add_argument("--times", type=int, help="noise levels, and steps of drawing a sample")
        data.add_argument(
            "--samples", type=Path, metavar="FILE",
            help="PNG that samples are drawn into at the end; without it samples.png of the run's folder",
        )  # fmt: skip


def _add_loop_flags(parser: argparse.ArgumentParser) -> None:
    loop = parser.add_argument_group("run")
    loop.add_argument(
        "--name", "--run", dest="run", metavar="NAME",
        help="results go to RUNS/NAME; torchrun takes --run for a flag of its own",
    )  # fmt: skip
    loop.add_argument("--runs", type=Path, metavar="FOLDER", help="folder of all runs")
    loop.add_argument(
        "--steps", type=int, help="microbatches, each of them an update unless --accumulate exact"
    )
    loop.add_argument(
        "--accum", type=int, help="cadence: logs, evaluations and checkpoints fall on its multiples"
    )
    loop.add_argument(
        "--accumulate", choices=("updates", "exact"),
        help="exact: one update from --accum microbatches, bit for bit that of one batch of all of them",
    )  # fmt: skip
    loop.add_argument("--log-interval", type=int, help="steps between logged lines, 0 for none")
    loop.add_argument("--eval-interval", type=int, help="steps between validations, 0 for none")
    loop.add_argument("--eval-batches", type=int, help="batches of one validation")
    loop.add_argument("--save-interval", type=int, help="steps between checkpoints, 0 for the last one only")
    loop.add_argument(
        "--checkpoint-format", choices=("2bit", "dense"), help="trits in a checkpoint: 4 or 5 a byte"
    )
    loop.add_argument("--no-save", action="store_true", help="write nothing to RUNS")
    loop.add_argument(
        "--report", type=Path, metavar="FILE", help="write what the run measured to FILE, as JSON"
    )
    loop.add_argument("--resume", action="store_true", help="continue RUNS/NAME from its checkpoint")
    loop.add_argument(
        "--new-metrics", action="store_true",
        help="with --resume: begin metrics.jsonl anew, where lines of it were lost",
    )  # fmt: skip
    loop.add_argument(
        "--backend",
        metavar="NAME",
        help="auto, triton, tilelang, torch, reference or a module path; else ARB_TERNARY_BACKEND or auto",
    )
    loop.add_argument("--device", help="auto, cpu, cuda")
    loop.add_argument("--threads", type=int, help="CPU threads of torch; on a busy machine 1 is fastest")


def _add_model_flags(parser: argparse.ArgumentParser) -> None:
    model = parser.add_argument_group("model and rule")
    model.add_argument("--d-model", type=int, help="width of the residual stream")
    model.add_argument("--layers", type=int, help="blocks of attention and MLP")
    model.add_argument("--heads", type=int, help="attention heads")
    model.add_argument("--window", type=int, help="positions that attention sees; all if not given")
    model.add_argument("--group-size", type=int, help="in-features that share an exponent and a vote scale")
    model.add_argument(
        "--experts", type=int, help="MLPs of a block that a router chooses from; 0: one, no router"
    )
    model.add_argument("--top-k", type=int, help="experts that a token takes")
    model.add_argument("--max-moe-iters", type=int, help="times that a block may apply experts to a token")
    model.add_argument("--balance", type=float, help="weight of the experts' balance in the loss")
    model.add_argument("--accum-threshold", type=int, help="a trit fires at this accumulated vote")
    model.add_argument("--e-accum-threshold", type=int, help="an exponent moves at this accumulated vote")
    model.add_argument("--gain", type=float, help="the learning rate of the votes")
    model.add_argument("--vote-max", type=int, help="largest vote of one update")
    model.add_argument("--vote-rule", choices=RULES, help="how a gradient becomes votes")
    model.add_argument("--scale-gain", type=float, help="rate of exponent votes, 0 freezes the exponents")
    model.add_argument("--control", choices=("frozen",), help="a control run: trits never change")
    model.add_argument(
        "--baseline", choices=("ste", "float"), help="a twin: BitNet b1.58 or float32, with AdamW"
    )
    model.add_argument(
        "--dtype", choices=("float32", "bfloat16"),
        help="of the float products: attention, and the projections of a baseline",
    )  # fmt: skip
    model.add_argument("--lr", type=float, help="peak learning rate of a baseline")
    model.add_argument("--weight-decay", type=float, help="of a baseline")


def _problem(options: Options) -> str | None:
    for name in (
        *("steps", "batch", "ctx", "accum", "d_model", "layers", "heads", "eval_batches", "max_moe_iters"),
        *("frame", "image_side", "patch", "times"),
    ):
        if getattr(options, name) < 1:
            return f"--{name.replace('_', '-')} must be at least 1, got {getattr(options, name)}"
    for name in ("log_interval", "eval_interval", "save_interval"):
        if getattr(options, name) < 0:
            return f"--{name.replace('_', '-')} must be 0 or more, got {getattr(options, name)}"
    for name in ("accum_threshold", "e_accum_threshold", "vote_max", "seed", "group_size"):
        lowest, highest = SCALAR_RANGES[name]
        if not lowest <= getattr(options, name) <= highest:
            return f"--{name.replace('_', '-')} must be in {lowest}..{highest}, got {getattr(options, name)}"
    for name in ("gain", "scale_gain"):
        highest = SCALAR_RANGES[name][1]
        if not 0 <= getattr(options, name) * Q16 <= highest:
            return f"--{name.replace('_', '-')} must be in 0..{highest // Q16}, got {getattr(options, name)}"
    if options.accumulate == "exact" and options.steps % options.accum:
        return f"--accumulate exact: --steps {options.steps} is no multiple of --accum {options.accum}"
    if options.group_size % 4:
        return f"--group-size must be a multiple of 4, got {options.group_size}"
    if options.experts < 0 or (options.experts and not 1 <= options.top_k <= options.experts):
        return f"--top-k must be in 1..experts, got {options.top_k} of {options.experts} experts"
    if options.experts and options.accumulate == "exact" and options.balance:
        return "--accumulate exact needs --balance 0: how even a microbatch is says nothing about the batch"
    if not 0 <= options.balance < math.inf:
        return f"--balance must be 0 or more, got {options.balance}"
    if options.new_metrics and not options.resume:
        return "--new-metrics goes with --resume: a run that starts anew has new metrics"
    if options.resume and options.preserve_state:
        return "--resume cannot go on from --preserve-state: KV state is in no checkpoint"
    if options.control and options.baseline:
        return "--control and --baseline exclude each other"
    return None


def _init_problem(options: Options) -> str | None:
    if options.resume:
        return "--init and --resume exclude each other" if options.init else None
    if options.init is None:
        return "--init CHECKPOINT is required: finetuning starts from one"
    if options.baseline:
        return "--init and --baseline exclude each other: a twin has no trits to take over"
    return None
