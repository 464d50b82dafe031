"""The command `arbitor`: what works here, whether a backend keeps the specification, what a model learned.

Nothing heavy is imported before a command is chosen, so that `--version` and `--help` are instant.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from . import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit status: that of the command, or 2 for bad usage."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    own, passed_on = _split(words)
    options = _parser().parse_args(own)
    if options.command == "doctor":
        from .doctor import doctor

        return doctor(operations=options.verbose)
    if options.command == "bench":
        from .bench import bench

        size = options.size or ("full" if options.device == "cuda" else "tiny")
        backends = options.backend or ["torch"]
        return bench(backends, options.device, size, options.rounds, options.only, options.out)
    if options.command == "sample":
        return _sample(options)
    if options.command == "inspect":
        from .inspect_file import inspect_file

        return inspect_file(options.file, options.picture)
    if options.command == "vectors":
        from .vector_check import check

        return check(options.backend, options.device, options.vectors)
    from .verify import verify

    return verify(options.backend, options.device, options.report, passed_on, options.capabilities)


def _sample(options: argparse.Namespace) -> int:
    from .refusal import refuse
    from .sample import Sampling, sample

    try:
        how = Sampling(options.bytes, options.temperature, options.top_k, options.seed)
    except ValueError as error:
        return refuse(str(error))
    where = (options.backend, options.device, options.threads)
    return sample(options.checkpoint, options.prompt, how, *where)


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Words before and after the first `--`."""
    if "--" not in words:
        return words, []
    cut = words.index("--")
    return words[:cut], words[cut + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="arbitor", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--version", action="version", version=f"arbitor {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    doctor = commands.add_parser("doctor", help="what works on this machine, and why the rest does not")
    doctor.add_argument("-v", "--verbose", action="store_true", help="list the operations too")
    verify = commands.add_parser(
        "verify",
        help="run the conformance suite on one backend and write a report",
        epilog="what follows -- goes to pytest:   arbitor verify --backend torch -- -k update -n 2",
    )
    verify.add_argument(
        "--backend",
        required=True,
        metavar="NAME",
        help="name, module path with a dot, FILE.py, or cmd:PROGRAM (docs/adding-a-backend.md)",
    )
    verify.add_argument(
        "--capabilities",
        type=Path,
        metavar="FILE",
        help="what it declares: FILE.toml or FILE.json (default: its own declaration)",
    )
    verify.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default: cpu")
    verify.add_argument(
        "--report", type=Path, metavar="FILE", help="default: reports/verify-<backend>-<time>.json"
    )
    bench = commands.add_parser("bench", help="time backends that are exact, beside what people use today")
    bench.add_argument(
        "--backend", action="append", metavar="NAME", help="may be given again; default: torch"
    )
    bench.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default: cpu")
    bench.add_argument("--size", choices=("tiny", "full"), help="default: full on cuda, tiny on cpu")
    bench.add_argument("--rounds", type=int, default=21, help="interleaved rounds (default: 21)")
    bench.add_argument("--only", default="", metavar="TEXT", help="cases with this in their name")
    bench.add_argument(
        "--out",
        type=Path,
        default=Path("reports/bench.json"),
        metavar="FILE",
        help="default: reports/bench.json",
    )
    _add_sample(commands)
    _add_vectors(commands)
    inspect = commands.add_parser("inspect", help="what is in a checkpoint: state, trits, exponents, votes")
    inspect.add_argument("file", type=Path, metavar="FILE", help="a checkpoint of ours")
    inspect.add_argument("--picture", type=Path, metavar="FILE.png", help="draw it too; default: no picture")
    return parser


def _add_vectors(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    vectors = commands.add_parser("vectors", help="judge a backend on the test vectors (docs/vectors.md)")
    actions = vectors.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", help="make every call of the vectors on a backend, and compare")
    check.add_argument("--backend", required=True, metavar="NAME", help="as of verify")
    check.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default: cpu")
    check.add_argument("--vectors", type=Path, metavar="FOLDER", help="default: those that ship")


def _add_sample(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    sample = commands.add_parser(
        "sample",
        help="let a trained model write text",
        description="Write to stdout what follows the prompt, which is not repeated, and a newline.",
    )
    sample.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="of a ternary run")
    sample.add_argument(
        "--prompt", default="", metavar="TEXT", help="what the text follows (default: one newline)"
    )
    sample.add_argument("--bytes", type=int, default=256, metavar="N", help="how many (default: 256)")
    sample.add_argument(
        "--temperature", type=float, default=0.8, metavar="X", help="0 takes the likeliest (default: 0.8)"
    )
    sample.add_argument(
        "--top-k", type=int, default=256, metavar="K", help="choose among the likeliest K (default: all 256)"
    )
    sample.add_argument(
        "--seed", type=int, default=0, metavar="S", help="the same one gives the same text (default: 0)"
    )
    sample.add_argument(
        "--backend",
        metavar="NAME",
        help="name, or module path with a dot (default: ARB_TERNARY_BACKEND, or auto)",
    )
    sample.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: auto")
    sample.add_argument(
        "--threads",
        type=int,
        default=1,
        metavar="N",
        help="CPU threads of torch; for one byte at a time 1 is often fastest (default: 1)",
    )
