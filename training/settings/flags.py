"""Command lines of the trainers: one set of flags. What was given is kept apart from what was not, which a
checkpoint may decide (recorded.py)."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arbitor.refusal import Parser

from ..options import CHOICES, Options, problem, value_problem

# The shape of a model, which finetuning takes from its checkpoint: what its tensors say, by the part of the
# model that has them, and what they do not say, in which a finetuning may differ.
TENSORS: dict[str, tuple[str, ...]] = {
    "embedding": ("d_model", "layers", "heads", "group_size", "experts"),
    "frames_in": ("frame",),
    "patches_in": ("image_channels", "patch"),
    "noised_in": ("image_channels", "patch", "times"),
}
BESIDE: dict[str, tuple[str, ...]] = {
    "embedding": ("window", "top_k", "max_moe_iters"),
    "patches_in": ("image_side",),
    "noised_in": ("image_side",),
}
NOT_GIVEN = object()


@dataclass(frozen=True)
class Asked:
    """A command line: the options with defaults in the place of what was not given, what was given, by the
    names of the fields, and the kind of the data."""

    options: Options
    given: Mapping[str, Any]
    kind: str


def parse(
    description: str,
    arguments: Sequence[str] | None = None,
    kind: str = "text",
    finetuning: bool = False,
    prog: str | None = None,
    **defaults: Any,
) -> Asked:
    """Parse a command line; `defaults` replaces the record's, `kind` is that of the data that the trainer
    reads, `finetuning` asks for --init. Exits with status 2 and a sentence on bad input; what a checkpoint
    decides is looked at by who reads it."""
    base = dataclasses.replace(Options(), **defaults)
    shown = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    parser = Parser(
        prog=prog, description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    _add_data_flags(parser, kind)
    _add_loop_flags(parser)
    if finetuning:
        parser.add_argument(
            "--init", type=Path, metavar="CHECKPOINT",
            help="start from the tensors of this checkpoint that the model has too, in its shape",
        )  # fmt: skip
        taken = {name for names in (*TENSORS.values(), *BESIDE.values()) for name in names}
        shown |= {name: f"that of --init, or {shown[name]}" for name in taken}
    _add_model_flags(parser)
    parser.set_defaults(**shown)  # for --help alone
    found = parser.parse_args(arguments, argparse.Namespace(**dict.fromkeys(shown, NOT_GIVEN)))
    given = {name: value for name, value in vars(found).items() if value is not NOT_GIVEN}
    options = dataclasses.replace(base, **given)
    decided_later = options.resume or options.init is not None
    wrong = (value_problem if decided_later else problem)(options)
    wrong = wrong or (_init_problem(options) if finetuning else None)
    if wrong:
        parser.error(wrong)
    return Asked(options, given, kind)


def _add_data_flags(parser: argparse.ArgumentParser, kind: str) -> None:
    data = parser.add_argument_group("data")
    if kind == "text":
        _add_source(
            data, "text", "SOURCE",
            "a file, a folder, or 'tinyshakespeare' (fetched once); without it CPython's help topics",
        )  # fmt: skip
        data.add_argument("--ctx", type=int, help="bytes a sequence")
        data.add_argument(
            "--preserve-state", action="store_true",
            help="read on in the text and keep KV state between batches",
        )  # fmt: skip
    if kind == "audio":
        _add_source(
            data, "audio", "SOURCE",
            "a sound file or a folder of WAV and FLAC; without it a melody that is synthesised here",
        )  # fmt: skip
        data.add_argument("--ctx", type=int, help="frames a window")
        data.add_argument("--frame", type=int, help="samples a frame")
    if kind in ("images", "diffusion"):
        _add_image_flags(data, kind)
    data.add_argument("--batch", type=int, help="sequences a microbatch")
    data.add_argument("--seed", type=int, help="of the model's bits and of the data order")


def _add_source(data: argparse._ArgumentGroup, what: str, metavar: str, told: str) -> None:
    """Where data of a kind comes from, by its own name and by one that is every trainer's."""
    data.add_argument(f"--{what}-data", "--data", dest=f"{what}_data", metavar=metavar, help=told)


def _add_image_flags(data: argparse._ArgumentGroup, kind: str) -> None:
    _add_source(data, "image", "FOLDER", "images in one sub-folder a class; without it scikit-learn's digits")
    data.add_argument("--image-side", type=int, help="pixels a side, to which a folder's images are scaled")
    data.add_argument("--image-channels", type=int, choices=CHOICES["image_channels"], help="grey or RGB")
    data.add_argument("--patch", type=int, help="pixels a side of a patch, which is one position")
    data.add_argument(
        "--fold", type=int, choices=CHOICES["fold"],
        help="which fifth of the images is validated on and not trained on",
    )  # fmt: skip
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
        "--accumulate", choices=CHOICES["accumulate"],
        help="exact: one update from --accum microbatches, bit for bit that of one batch of all of them",
    )  # fmt: skip
    loop.add_argument("--log-interval", type=int, help="steps between logged lines, 0 for none")
    loop.add_argument("--eval-interval", type=int, help="steps between validations, 0 for none")
    loop.add_argument("--eval-batches", type=int, help="batches of one validation")
    loop.add_argument("--save-interval", type=int, help="steps between checkpoints, 0 for the last one only")
    loop.add_argument(
        "--keep-interval", type=int, help="steps between checkpoints that stay, for arbitor audit; 0 for none"
    )
    loop.add_argument(
        "--checkpoint-format",
        choices=CHOICES["checkpoint_format"],
        help="trits in a checkpoint: 4 or 5 a byte",
    )
    loop.add_argument("--no-save", action="store_true", help="write nothing to RUNS")
    loop.add_argument(
        "--report", type=Path, metavar="FILE", help="write what the run measured to FILE, as JSON"
    )
    loop.add_argument(
        "--resume", action="store_true",
        help="continue RUNS/NAME from its checkpoint: its settings and its data need not be given again",
    )  # fmt: skip
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
    model.add_argument(
        "--cooldown", type=int, help="last %% of the run in which gain, or a baseline's rate, falls to 2 %%"
    )
    model.add_argument("--vote-max", type=int, help="largest vote of one update")
    model.add_argument("--vote-rule", choices=CHOICES["vote_rule"], help="how a gradient becomes votes")
    model.add_argument("--scale-gain", type=float, help="rate of exponent votes, 0 freezes the exponents")
    model.add_argument("--control", choices=CHOICES["control"], help="a control run: trits never change")
    model.add_argument(
        "--baseline", choices=CHOICES["baseline"], help="a twin: BitNet b1.58 or float32, with AdamW"
    )
    model.add_argument(
        "--dtype", choices=CHOICES["dtype"],
        help="of the products of a baseline; a ternary model has none of floats",
    )  # fmt: skip
    model.add_argument("--lr", type=float, help="peak learning rate of a baseline")
    model.add_argument("--weight-decay", type=float, help="of a baseline")


def _init_problem(options: Options) -> str | None:
    if options.resume:
        return "--init and --resume exclude each other" if options.init else None
    if options.init is None:
        return "--init CHECKPOINT is required: finetuning starts from one"
    if options.baseline:
        return "--init and --baseline exclude each other: a twin has no trits to take over"
    return None
