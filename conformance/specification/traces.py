"""Every clause of the specification with the tests, vectors and killed mutants that name it.

Tests are read off the sources of the suite: a file counts once for a clause, however many cases it makes.
Mutants are those of the catalogue that a recorded run killed by a test of the clause (docs/results/mutants/);
a result of an older edit does not count.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

from arbitor.judge import vectors as vector_files
from arbitor.judge.mutants.catalogue import load
from arbitor.judge.mutants.score import DEAD, judged, read

SUITE = Path(__file__).resolve().parents[1]
ROOT = SUITE.parent
SPEC = ROOT / "docs" / "SPEC.md"
PAGE = ROOT / "docs" / "traceability.md"
RESULTS = ROOT / "docs" / "results" / "mutants"
CLAUSE = re.compile(r"ARB-[A-Z]+-\d{3}")
HEADING = """# Clause by clause

Made by `python scripts/trace.py`: the test files that check a clause, the vectors that name it,
and the wrong programs (`conformance/mutants/`) that a test of the clause has killed in a recorded
run (`docs/results/mutants/`).

| clause | test files | vectors | mutants killed |
|---|---|---|---|
"""


def clauses() -> list[str]:
    """Ids that the specification defines, each at the beginning of a row of a table, in its order."""
    return re.findall(r"^\| (ARB-[A-Z]+-\d{3}) \|", SPEC.read_text(encoding="utf-8"), flags=re.MULTILINE)


def named_in(text: str) -> set[str]:
    """Clauses that a test file gives to a mark or a factory of tests: whole strings, not those in prose."""
    strings = (
        node.value
        for call in ast.walk(ast.parse(text))
        if isinstance(call, ast.Call)
        for node in ast.walk(call)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    return {string for string in strings if CLAUSE.fullmatch(string)}


def tests() -> dict[str, list[str]]:
    """Test files by clause; those in meta/ check the harness, and are none."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(set(SUITE.rglob("test_*.py")) - set((SUITE / "meta").iterdir()), key=lambda p: p.name):
        for clause in named_in(path.read_text(encoding="utf-8")):
            found[clause].append(path.stem.removeprefix("test_"))
    return found


def vectors() -> dict[str, int]:
    """Number of vectors by clause."""
    found: defaultdict[str, int] = defaultdict(int)
    for vector in vector_files.load(vector_files.default_folder()):
        for clause in vector.clauses:
            found[clause] += 1
    return found


def killed() -> dict[str, set[str]]:
    """Ids of mutants that are dead in some lane, by clause."""
    cases = judged(load(SUITE / "mutants", ROOT), [read(path) for path in sorted(RESULTS.glob("*.json"))])
    found: defaultdict[str, set[str]] = defaultdict(set)
    for case in cases:
        if case.result.outcome in DEAD and not case.mutant.equivalent:
            found[case.mutant.clause].add(case.mutant.id)
    return found


def page() -> str:
    """The page in Markdown."""
    of_tests, of_vectors, of_mutants = tests(), vectors(), killed()
    rows = [
        f"| {clause} | {', '.join(of_tests.get(clause, []))} | {of_vectors.get(clause, 0)} "
        f"| {len(of_mutants.get(clause, ()))} |"
        for clause in clauses()
    ]
    return HEADING + "\n".join(rows) + "\n"
