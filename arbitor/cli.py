"""The command `arbitor`: what works here, whether a backend keeps the specification, what a model learned.

Nothing heavy is imported before a command is chosen, so that `--version` and `--help` are instant.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from arbitor.training.commands import COMMANDS, add_to, train

from . import __version__
from .judge.interrupts import LINE, STATUS, imports_left_at_once
from .judge.mutants.catalogue import GENERAL, SETS
from .refusal import Parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit status: that of the command, 2 for bad usage, 130 for an interrupt."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with imports_left_at_once():
            if words and words[0] in COMMANDS:
                return train(words[0], words[1:])
            return _run(*_split(words))
    except KeyboardInterrupt:
        print(LINE, file=sys.stderr)
        return STATUS


def _run(own: list[str], passed_on: list[str]) -> int:
    parser = _parser()
    options, unknown = parser.parse_known_args(own)
    if unknown and options.command == "verify":
        from .refusal import refuse

        for word in reversed(unknown):
            del own[len(own) - 1 - own[::-1].index(word)]
        instead = shlex.join(["arbitor", *own, "--", *unknown])
        return refuse(f"{unknown[0]} is no option of verify; -- goes before pytest's words: {instead}")
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if options.command == "doctor":
        from .judge.doctor import doctor

        return doctor(operations=options.verbose)
    if options.command == "bench":
        from .bench.command import bench

        size = options.size or ("full" if options.device == "cuda" else "tiny")
        backends = options.backend or ["torch"]
        return bench(backends, options.device, size, options.rounds, options.only, options.out)
    if options.command == "sample":
        return _sample(options)
    if options.command == "audit":
        from .training.audit.command import audit
        from .training.audit.replay import Where

        replayed = Where(options.backend, options.device, options.threads, options.data)
        return audit(options.run, options.steps, options.random, options.seed, replayed)
    if options.command == "diff":
        from .training.audit.compare import diff

        return diff(options.first, options.second)
    if options.command == "inspect":
        from .inspection.command import inspect_file

        return inspect_file(options.file, options.picture)
    if options.command == "vectors":
        from .judge.vector_check import check

        return check(options.backend, options.device, options.vectors, options.capabilities)
    if options.command == "mutants":
        from .judge.mutants.command import mutants, options_of

        return mutants(options_of(options))
    if options.command == "replay":
        from .judge.suite import replay

        return replay(options.file, options.backend, options.device)
    if options.command == "fuzz":
        from .judge.suite import fuzz

        how = (options.minutes, options.only, options.seed, options.capabilities)
        return fuzz(options.backend, options.device, *how)
    if options.command == "report":
        if options.action == "summary":
            from .judge.report.brief import write_summary

            return write_summary(options.file, options.out)
        from .judge.report.check import check as check_report

        return max(check_report(file) for file in options.files)
    from .judge.verify import Asked, verify

    where = (options.report, options.capabilities, options.waivers, options.case_timeout)
    return verify(Asked(options.backend, options.device, *where, options.only, options.all), passed_on)


def _sample(options: argparse.Namespace) -> int:
    from .refusal import refuse
    from .sample import Sampling, sample

    try:
        how = Sampling(options.bytes, options.temperature, options.top_k, options.seed)
    except ValueError as error:
        return refuse(str(error))
    where = (options.backend, options.device, options.threads, options.window)
    return sample(options.checkpoint, options.prompt, how, *where)


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Words before and after the first `--`."""
    if "--" not in words:
        return words, []
    cut = words.index("--")
    return words[:cut], words[cut + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = Parser(
        prog="arbitor", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("--version", action="version", version=f"arbitor {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    doctor = commands.add_parser("doctor", help="what works on this machine, and why the rest does not")
    doctor.add_argument("-v", "--verbose", action="store_true", help="list the operations too")
    verify = commands.add_parser(
        "verify",
        help="run the conformance suite on one backend and write a report",
        epilog="what follows -- goes to pytest:   arbitor verify --backend torch --only update -- -n 2 -x",
    )
    verify.add_argument(
        "--backend",
        required=True,
        metavar="NAME",
        help="name, module path with a dot, FILE.py, or cmd:PROGRAM (docs/adding-a-backend.md)",
    )
    _add_capabilities(verify)
    verify.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default: cpu")
    verify.add_argument("--waivers", type=Path, metavar="FILE.toml", help="known failures (docs/reports.md)")
    verify.add_argument(
        "--case-timeout", type=_seconds, metavar="S", help="of one test (default: 300, deep examples 3000)"
    )
    verify.add_argument(
        "--report", type=Path, metavar="FILE", help="default: reports/verify-<backend>-<time>.json"
    )
    part = verify.add_mutually_exclusive_group()
    part.add_argument(
        "--only", action="append", default=[], metavar="NAME",
        help="tests of this operation or family (packing, ...); a list with commas, or given again",
    )  # fmt: skip
    part.add_argument(
        "--all",
        action="store_true",
        help="the whole suite: without it a backend that is none of ours has what kernels decide",
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
    add_to(commands)
    _add_sample(commands)
    _add_vectors(commands)
    _add_report(commands)
    _add_mutants(commands)
    _add_replay(commands)
    _add_fuzz(commands)
    _add_audit(commands)
    inspect = commands.add_parser("inspect", help="what is in a checkpoint: state, trits, exponents, votes")
    inspect.add_argument("file", type=Path, metavar="FILE", help="a checkpoint of ours")
    inspect.add_argument("--picture", type=Path, metavar="FILE.png", help="draw it too; default: no picture")
    return parser


def _add_capabilities(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--capabilities",
        type=Path,
        metavar="FILE",
        help="what it declares: FILE.toml or FILE.json (default: its own declaration)",
    )


def _add_audit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    audit = commands.add_parser("audit", help="make steps of a recorded run again, and compare every digest")
    audit.add_argument("run", type=Path, metavar="RUN", help="the folder of a ternary run")
    part = audit.add_mutually_exclusive_group()
    part.add_argument("--steps", metavar="N..M", help="these updates; default: all")
    part.add_argument("--random", type=int, metavar="K", help="so many, drawn")
    audit.add_argument("--seed", type=int, metavar="S", help="of --random; default: random")
    audit.add_argument("--data", metavar="PLACE", help="of the data; default: where the run had them")
    audit.add_argument("--backend", metavar="NAME", help="default: ARB_TERNARY_BACKEND, or auto")
    audit.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: auto")
    audit.add_argument("--threads", type=int, metavar="N", help="CPU threads of torch")
    diff = commands.add_parser("diff", help="the first step and tensor in which two recorded runs part")
    diff.add_argument("first", type=Path, metavar="RUN_A", help="the folder of a ternary run")
    diff.add_argument("second", type=Path, metavar="RUN_B", help="of another")


def _add_replay(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    replay = commands.add_parser("replay", help="repeat a failed case from its artifact (docs/fuzzing.md)")
    replay.add_argument("file", type=Path, metavar="FILE.arb", help="what a failed test left in reports/")
    replay.add_argument("--backend", metavar="NAME", help="as of verify; default: the one that failed")
    replay.add_argument("--device", choices=("cpu", "cuda"), help="default: the one that it failed on")


def _add_fuzz(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    fuzz = commands.add_parser("fuzz", help="random cases without an end, until one fails (docs/fuzzing.md)")
    fuzz.add_argument("--backend", required=True, metavar="NAME", help="as of verify")
    fuzz.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default: cpu")
    _add_capabilities(fuzz)
    fuzz.add_argument("--minutes", type=_minutes, metavar="N", help="end after N minutes; default: never")
    fuzz.add_argument(
        "--only", action="append", default=[], metavar="NAME",
        help="this operation, or steps; may be given again; default: all",
    )  # fmt: skip
    fuzz.add_argument(
        "--seed", type=int, metavar="S", help="the same one gives the same cases; default: random"
    )


def _minutes(text: str) -> float:
    return _seconds(text) * 60


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError
    return seconds


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    report = commands.add_parser(
        "report", help="is a report of verify whole; a short record of one (docs/reports.md)"
    )
    actions = report.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", help="reject one that is truncated, edited, reordered or empty")
    check.add_argument("files", type=Path, nargs="+", metavar="FILE", help="a report, FILE.json")
    summary = actions.add_parser("summary", help="all of one but its tests, which are counted by file")
    summary.add_argument("file", type=Path, metavar="FILE", help="a whole report, FILE.json")
    summary.add_argument("--out", type=Path, metavar="FILE", required=True, help="where to write it, as JSON")


def _add_vectors(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    vectors = commands.add_parser("vectors", help="judge a backend on the test vectors (docs/vectors.md)")
    actions = vectors.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", help="make every call of the vectors on a backend, and compare")
    check.add_argument("--backend", required=True, metavar="NAME", help="as of verify")
    check.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default: cpu")
    _add_capabilities(check)
    check.add_argument("--vectors", type=Path, metavar="FOLDER", help="default: those that ship")


def _add_mutants(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    mutants = commands.add_parser(
        "mutants", help="how many wrong programs the suite kills, by clause and lane (docs/mutants.md)"
    )
    mutants.add_argument(
        "--set",
        action="append",
        choices=(*SETS, GENERAL),
        help="may be given again; default: all but general, which is every line of the reference",
    )
    mutants.add_argument("--only", default="", metavar="TEXT", help="those with this in their id")
    mutants.add_argument(
        "--one-per-clause", action="store_true", help="of each set the first of each clause and of each kind"
    )
    mutants.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default: cpu")
    mutants.add_argument(
        "--workers", type=int, default=0, metavar="N", help="default: the cores, up to 8 on cuda"
    )
    mutants.add_argument(
        "--seconds", type=float, default=300.0, metavar="S", help="for the tests of one (default: 300)"
    )
    mutants.add_argument(
        "--out", type=Path, default=Path("reports/mutants.json"), metavar="FILE", help="default: %(default)s"
    )
    mutants.add_argument("--resume", action="store_true", help="keep the kills that FILE has")
    mutants.add_argument("--score", action="store_true", help="run nothing, show the score of --results")
    mutants.add_argument(
        "--results",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="earlier results for the score",
    )
    mutants.add_argument("--page", type=Path, metavar="FILE.md", help="write the score there too")


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
        "--window", default="trained", metavar="N",
        help="positions that attention sees, or all (default: trained, which is as many as in training: "
        "of what lies beyond, a model has learnt nothing)",
    )  # fmt: skip
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
