"""Which clauses failed tests point at, the likeliest cause first.

Every test function has one vote, shared among the clauses that it names: a test of one clause says more about
it than a test of twelve, and a thousand cases of one function say no more than one. A clause whose tests pass
elsewhere is an unlikely cause: with F the votes of failed tests and P those of passed ones the order is by
F^2 / (F + P). (That is Ochiai's measure of fault localisation, squared.)

Tests of buffers, tiles, configurations and whole steps do the same to every operation, so they fail for any
wrong byte and name the same few clauses each time. They have a vote only where no other test failed, and what
they alone name is not shown beside other clauses.

Where tests of an operation failed, its own clauses come before all others, and equal ones in the order in
which the tests name them, which begins with what the operation is. So a run that ends at its first failure
(-x), where nothing has more votes than anything else, shows them too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from arbitor.kernels.operations import OPERATIONS

_ALIKE = "buffers tiles pointers configurations large claims settings machine trajectory"
ALIKE = frozenset(f"test_{name}.py" for name in _ALIKE.split())
# what the tests of every operation name: of refusals, and that it repeats
COMMON = frozenset(f"ARB-{clause}" for clause in ("STATE-005", "STATE-006", "LIN-006", "UPD-003"))
CLAUSES = "clauses"  # name of the property that a test's report carries


@dataclass(frozen=True)
class Ran:
    """One case that ran: its pytest id, the clauses that it checks, and whether it failed."""

    test: str
    clauses: Sequence[str]
    failed: bool

    @property
    def alike(self) -> bool:
        """Whether it does the same to every operation."""
        return _file(self.test) in ALIKE


def _file(test: str) -> str:
    """The name of a test's file by its pytest id."""
    return test.partition("::")[0].rpartition("/")[2]


@dataclass
class Tally:
    """Of one clause: cases that failed and that ran, and the votes of both kinds."""

    failed: int = 0
    ran: int = 0
    against: Fraction = Fraction()
    votes: Fraction = Fraction()

    @property
    def suspicion(self) -> Fraction:
        """F^2 / (F + P)."""
        return self.against**2 / self.votes if self.votes else Fraction()


def clauses_of(report: Any) -> list[str]:
    """The clauses that the test of a pytest report checks."""
    for name, value in getattr(report, "user_properties", ()):
        if name == CLAUSES:
            return [str(clause) for clause in value]
    return []


def own_clauses(cases: Iterable[Ran]) -> set[str]:
    """What failed tests of operations name, but for what those of every operation do."""
    files = {f"test_{name}.py" for name in OPERATIONS}
    failed = (case.clauses for case in cases if case.failed and _file(case.test) in files)
    return {clause for clauses in failed for clause in clauses} - COMMON


def blamed(cases: Iterable[Ran]) -> dict[str, dict[str, int]]:
    """Cases that failed and that ran by clause, of the clauses of failed cases that have votes, the likeliest
    first."""
    cases = list(cases)
    some = any(case.failed and not case.alike for case in cases)
    functions: defaultdict[str, list[Ran]] = defaultdict(list)
    for case in cases:
        functions[case.test.partition("[")[0]].append(case)
    tallies: defaultdict[str, Tally] = defaultdict(Tally)
    place: dict[str, int] = {}
    for group in functions.values():
        for case in group:
            share = Fraction(1, len(group) * max(1, len(set(case.clauses))))
            for clause in set(case.clauses):
                tally = tallies[clause]
                vote = Fraction() if some and case.alike else share
                tally.ran, tally.votes = tally.ran + 1, tally.votes + vote
                if case.failed:
                    tally.failed, tally.against = tally.failed + 1, tally.against + vote
                    named = case.clauses.index(clause)
                    place[clause] = min(place.get(clause, named), named)
    own = own_clauses(cases)
    voted = [clause for clause in place if tallies[clause].against] or [*place]
    order = sorted(voted, key=lambda c: (c not in own, -tallies[c].suspicion, place[c], c))
    return {clause: {"failed": tallies[clause].failed, "ran": tallies[clause].ran} for clause in order}
