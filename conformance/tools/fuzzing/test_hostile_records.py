"""Reports, vectors, results of mutants, declarations and waivers that somebody made: refused, and at once."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arbitor.conformance.tools.fuzzing.damage import ESCAPES
from arbitor.conformance.tools.fuzzing.forged_records import Format

Change = Callable[[Any], object]
SECONDS = 10


def first(tree: Any) -> Any:
    """The first vector of `pack`."""
    return tree["pack"]["vectors"][0]


def trits(tree: Any) -> Any:
    return first(tree)["arguments"]["trits"]


def right(tree: Any) -> Any:
    return first(tree)["gives"]["codes"]


LONG = list(range(100_000))
LINES = "x\n" * 2_000_000
# format -> what is changed in a valid file, words of what is said
REPORTS: dict[str, tuple[Change, str]] = {
    "domains of two types": (lambda t: t.update(domains=[*map(str, LONG), 1]), "1 is not of type 'string'"),
    "a domain twice": (lambda t: t.update(domains=["a", "a"]), "rejected: has a domain twice"),
    "a long end": (lambda t: t["run"].update(ended=f"lost: {LINES}", complete=False), "partial: lost: x\\nx"),
    "a long end that is none": (lambda t: t["run"].update(ended=LINES), "does not match"),
    "what is no test": (lambda t: t.update(tests=LONG[:999]), "leaves the schema at $.selection"),
    "too many tests": (lambda t: t["tests"].extend(t["tests"] * 20_000), "has 60,003 tests, expected at"),
    "a test that is huge": (lambda t: t["tests"].append({"test": "x" * 10**6}), "is a required property"),
    "a name of escapes": (lambda t: t["backend"].update(name=ESCAPES), r"report.json: \x1b[2J\x1b]0;x\x07\u"),
    "a bool": (lambda t: t["run"].update(workers=True), "True is not of type 'integer'"),
    "1.0": (lambda t: t["run"].update(exit_status=1.0), "1.0 is not of type 'integer'"),
    "NaN": (lambda t: t["run"].update(seconds=float("nan")), "it has NaN, which is no JSON"),
    "a huge number": (lambda t: t["totals"].update(x=10**30), "it has an integer of 31 digits"),
    "another format": (lambda t: t.update(format=[ESCAPES]), r"its format is ['\x1b[2J\x1b]0;x\x07\u202e"),
}  # fmt: skip
VECTORS: dict[str, tuple[Change, str]] = {
    "nothing is compared": (lambda t: first(t).update(gives={}), "example gives nothing, expected codes"),
    "something else is": (lambda t: first(t).update(gives={"x": trits(t)}), "gives x, expected codes"),
    "neither": (lambda t: first(t).pop("gives"), "has neither results nor a refusal that is known"),
    "both": (lambda t: first(t).update(refuses=t["pack"]["vectors"][1]["refuses"]), "has neither resul"),
    "a float": (lambda t: trits(t).update(data=[-1, 0, 1, 1, 0.5]), "its elements are not all integers"),
    "a bool": (lambda t: trits(t).update(data=[-1, 0, 1, 1, True]), "its elements are not all integers"),
    "out of range": (lambda t: trits(t).update(data=[-1, 0, 1, 1, 128]), "128 out of bounds for int8"),
    "a shape": (lambda t: trits(t).update(shape=[2, 5]), "shape [2, 5] and 5 elements"),
    "two minuses": (lambda t: trits(t).update(shape=[-1, -5]), "-1 is less than the minimum of 0"),
    "a number for an array": (lambda t: first(t)["arguments"].update(trits=5), "must be a torch.Tensor"),
    "a call that is illegal": (lambda t: trits(t).update(shape=[1, 5, 1]), "trits must have shape [R, C]"),
    "2^40 words": (lambda t: t["philox"]["vectors"][0]["arguments"].update(count=2**40), "8,796,093,022,208"),
    "no id": (lambda t: first(t).pop("id"), "'id' is a required property"),
    "clauses": (lambda t: first(t).update(clauses="ARB"), "'ARB' is not of type 'array'"),
    "a file elsewhere": (lambda t: t["pack"].update(operation="../x"), "of the operation '../x', which doe"),
    "a refusal": (lambda t: t["pack"]["vectors"][1]["refuses"].update(error="exit"), "'exit' is not one of"),
    "names": (lambda t: t["pack"]["vectors"][1]["refuses"].update(names=[None]), "None is not of type"),
    "escapes": (lambda t: (first(t).update(why=ESCAPES), right(t).update(data=[0, 0])), "there: \\x1b[2J"),
}  # fmt: skip
RESULTS: dict[str, tuple[Change, str]] = {
    "no lanes": (lambda t: t.pop("lanes"), "'lanes' is a required property"),
    "a lane": (lambda t: t.update(lanes={"x": 1}), "1 is not of type 'object'"),
    "no cores": (lambda t: t["lanes"]["runtime on cpu"].update(machine={}), "is a required property"),
    "an outcome": (lambda t: result(t).update(outcome="fine"), "'fine' is not one of"),
    "another field": (lambda t: result(t).update(__class__="x"), "('__class__' was unexpected)"),
    "a number": (lambda t: result(t).update(seconds="x"), "'x' is not of type 'number'"),
    "no results": (lambda t: t.update(mutants=[]), "[] is not of type 'object'"),
}  # fmt: skip


def result(tree: Any) -> Any:
    return tree["mutants"]["runtime.x"]["results"]["runtime on cpu"]


TABLES: dict[str, tuple[Change, str]] = {
    "a number": (lambda t: t.update(waiver=[3]), "has waiver; a file of waivers has"),
    "escapes": (
        lambda t: t["waiver"][0].update(device="\x1b[2J\u202e"),
        r"device is '\x1b[2J\u202e', expected",
    ),
    "deep": (
        lambda t: t["waiver"][0].update(reason=deep(40)),
        "more than 32 lists and objects in each other",
    ),
}
DECLARED: dict[str, tuple[Change, str]] = {
    "a list": (lambda t: t.update(operations=[["pack"]]), "operations[0] is ['pack'], expected one of"),
    "many ways": (
        lambda t: t["configurations"].update(pack=[f"{n}" for n in LONG]),
        "names or more, at most",
    ),
    "deep": (lambda t: t.update(tiles=deep(40)), "more than 32 lists and objects in each other"),
    "escapes": (lambda t: t.update({ESCAPES[:5]: 1}), r"unknown key '\x1b[2J\x1b', expected version"),
    "version": (lambda t: t.update(version=10**18), "version is 1000000000000000000, expected 1"),
}
CATALOGUE: dict[str, tuple[Change, str]] = {
    "a number": (lambda t: t.update(mutant=[3]), "expected a list of [[mutant]] tables"),
    "no text": (lambda t: t["mutant"][0].pop("new"), "has no 'new'"),
    "a list of them": (lambda t: t["mutant"][0].update(old=["1"]), "old is ['1'], expected text"),
}
CASES = {
    "report": REPORTS, "vectors": VECTORS, "results": RESULTS, "waivers": TABLES, "catalogue": CATALOGUE,
    "capabilities-toml": DECLARED, "capabilities-json": DECLARED,
}  # fmt: skip


def deep(levels: int) -> Any:
    found: Any = 1
    for _ in range(levels):
        found = [found]
    return found


@pytest.mark.parametrize(("name", "case"), [(name, case) for name in CASES for case in CASES[name]])
def test_one_sentence(
    name: str, case: str, known: dict[str, Format], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said what is wrong, or what there is, in printable lines, and nobody waits for it."""
    change, message = CASES[name][case]
    tree = copy.deepcopy(known[name].tree)
    change(tree)
    for file, data in known[name].build(tree).items():
        (tmp_path / file).write_bytes(data)
    capsys.readouterr()
    begin = time.process_time()
    status = known[name].read(tmp_path)
    assert time.process_time() - begin < SECONDS
    shown = capsys.readouterr()
    assert message in shown.out + shown.err
    assert all(line.isprintable() for line in (shown.out + shown.err).split("\n"))
    assert len(shown.out + shown.err) < 9000
    if shown.err:
        assert (status, shown.err.count("\n")) in ((1, 1), (2, 1))
