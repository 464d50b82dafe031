"""The catalogue of mutants is of this source, and the score counts what it should."""

from __future__ import annotations

from pathlib import Path

import pytest

from arbitor.cli import _parser
from arbitor.judge.mutants import command, score
from arbitor.judge.mutants.catalogue import AROUND, SETS, CatalogueRefused, Mutant, load
from arbitor.judge.mutants.run import BROKEN, KILLED, NOT_RUN, SURVIVED, TIMED_OUT, Result, lane_of, verdict
from arbitor.judge.mutants.tree import Answer
from arbitor.judge.suite import find_suite

ENTRY = """[[mutant]]
id = "torch.a.b"
kind = "wrong sign"
file = "a.py"
old = "x + 1"
new = "x - 1"
clause = "ARB-PACK-001"
why = "Wrong."
"""


def test_every_edit_is_found_in_the_sources() -> None:
    root = find_suite().parent
    if not (root / "pyproject.toml").is_file():
        pytest.skip("mutants are made from a checkout")
    assert len(load(find_suite() / "mutants", root)) > 400


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('id = "torch.a.b"', 'id = "triton.a.b"', "must begin with torch"),
        ('old = "x + 1"', 'old = "x + 2"', "occurs 0 times"),
        ('old = "x + 1"', 'old = "x"', "occurs 2 times"),
        ('new = "x - 1"', 'new = "x + 1"', "are the same"),
        ('why = "Wrong."', 'reason = "Wrong."', "has no 'why'"),
        ('why = "Wrong."', 'why = "Wrong."\nneeds = "tpu"', "needs is 'tpu'"),
        ('why = "Wrong."', 'why = "Wrong."\nequivalent = "a"\nexplained = "b"', "no survival to explain"),
        ('file = "a.py"', 'file = "b.py"', "No such file"),
        ("[[mutant]]", "[[mutants]]", r"expected a list of \[\[mutant\]\]"),
    ],
)
def test_an_entry_that_does_not_fit(tmp_path: Path, old: str, new: str, named: str) -> None:
    (tmp_path / "a.py").write_text("y = x + 1\nz = x\n")
    (tmp_path / "torch.toml").write_text(ENTRY)
    assert [mutant.id for mutant in load(tmp_path, tmp_path, ["torch"])] == ["torch.a.b"]
    (tmp_path / "torch.toml").write_text(ENTRY.replace(old, new))
    with pytest.raises(CatalogueRefused, match=named):
        load(tmp_path, tmp_path, ["torch"])


@pytest.mark.parametrize(
    ("status", "timed_out", "passed", "failed", "outcome"),
    [
        (1, False, 3, [{"test": "t", "message": "m"}], KILLED),
        (None, True, 0, [], TIMED_OUT),
        (None, False, 0, [], KILLED),  # the process died
        (0, False, 3, [], SURVIVED),
        (0, False, 0, [], NOT_RUN),  # all were skipped
        (5, False, 0, [], NOT_RUN),
        (4, False, 0, [], BROKEN),
    ],
)
def test_what_a_run_says(
    tmp_path: Path,
    status: int | None,
    timed_out: bool,
    passed: int,
    failed: list[dict[str, str]],
    outcome: str,
) -> None:
    (tmp_path / "log").write_text("the end")
    answer = Answer(status, timed_out, passed, 0, failed, {}, tmp_path / "log")
    assert verdict(answer).outcome == outcome


def test_what_did_not_run_is_in_the_denominator() -> None:
    def mutant(name: str, **more: str) -> Mutant:
        return Mutant(f"torch.{name}", "kind", "a.py", name, "new", "ARB-PACK-001", "Wrong.", **more)

    lane = lane_of("torch", "cpu").name
    cases = [
        score.Judged(mutant("a"), lane, Result(KILLED)),
        score.Judged(mutant("b"), lane, Result(NOT_RUN)),
        score.Judged(mutant("c", explained="a race"), lane, Result(SURVIVED)),
        score.Judged(mutant("d", equivalent="a proof"), lane, Result(SURVIVED)),
        score.Judged(mutant("e", equivalent="no proof"), lane, Result(KILLED)),
    ]
    found = score.score(cases)
    assert (str(found), found.percent, found.percent_of_ran) == ("1/4", "25.0 %", "33.3 %")
    gpu = score.Judged(cases[1].mutant, lane_of("torch", "cuda").name, Result(TIMED_OUT))
    assert str(score.killed_somewhere([*cases, gpu])) == "2/4"
    assert "| torch | 2/4 = 50.0 % | torch on cpu, torch on cuda |" in score.page([*cases, gpu], [])
    assert [case.wrong for case in cases] == [False, False, False, False, True]
    assert [case.idle("cpu") for case in cases] == [False, True, False, False, False]
    assert not score.Judged(mutant("g", needs="cuda"), lane, Result(NOT_RUN)).idle("cpu")
    assert not cases[1].idle("cuda")
    elsewhere = score.Judged(mutant("f", needs="cuda"), lane, Result(SURVIVED))
    assert elsewhere.mutant.lacks("cpu")
    assert not elsewhere.mutant.lacks("cuda")
    entry = {"digest": elsewhere.mutant.digest, "results": {lane: {"outcome": SURVIVED}}}
    gpu_only = {"lanes": {lane: {}}, "mutants": {"torch.f": entry}}
    assert [case.kind for case in score.judged([elsewhere.mutant], [gpu_only])] == [NOT_RUN]
    record = {"lanes": {lane: {}}, "mutants": {"torch.a": {"digest": "older", "results": {lane: {}}}}}
    assert [case.kind for case in score.judged([mutant("a")], [record])] == [NOT_RUN]


def test_sets_have_lanes() -> None:
    assert lane_of("triton", "cpu").environment == {"TRITON_INTERPRET": "1"}
    assert all(lane_of(n, "cpu").tests == ("--backend", "torch", "--device", "cpu") for n in AROUND)
    assert lane_of("training", "cpu").name == "training on cpu"
    assert all("--kernels" in lane_of(name, "cuda").tests for name in SETS if name not in AROUND)


def test_one_of_each_clause_and_kind_of_a_set_is_chosen() -> None:
    """None that cannot run there, and none that may live: CI runs these."""
    suite = find_suite()
    if not (suite.parent / "pyproject.toml").is_file():
        pytest.skip("what the mutants edit lies as in a checkout")
    catalogue = load(suite / "mutants", suite.parent)
    sets = ("torch", "reference", "runtime", "training")
    words = ["mutants", "--one-per-clause", *(word for name in sets for word in ("--set", name))]
    chosen = command._chosen(catalogue, command.options_of(_parser().parse_args(words)))
    able = [m for m in catalogue if m.set in sets and not (m.equivalent or m.explained or m.lacks("cpu"))]
    assert {mutant.id for mutant in chosen} <= {mutant.id for mutant in able}
    by_clause = {(mutant.set, mutant.clause): mutant.id for mutant in reversed(able)}
    by_kind = {(mutant.set, mutant.kind): mutant.id for mutant in reversed(able)}
    firsts = set(by_clause.values())
    assert firsts <= {mutant.id for mutant in chosen} <= firsts | set(by_kind.values())
    assert {(mutant.set, mutant.kind) for mutant in chosen} == set(by_kind)
    assert len(chosen) == len({mutant.id for mutant in chosen}) < len(able)
