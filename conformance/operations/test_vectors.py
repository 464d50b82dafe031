"""Every test vector (docs/vectors.md) on the backend under test; each test has the clauses of its vector.

The judge has no part in it: what must come out is in the files. Calls that only the judges have to refuse run
where the reference or the oracle is under test.
"""

from __future__ import annotations

import pytest

from arbitor.conformance.judge.target import Target
from arbitor.judge.vector_check import FAILED, NOT_RUN, judge
from arbitor.judge.vectors import Vector, default_folder, load

VECTORS = [
    pytest.param(vector, id=vector.id, marks=pytest.mark.clause(*vector.clauses))
    for vector in load(default_folder())
]


@pytest.mark.parametrize("vector", VECTORS)
def test_vector(target: Target, vector: Vector) -> None:
    verdict = judge(vector, target.backend, target.device)
    if verdict.outcome == NOT_RUN:
        pytest.skip(verdict.words)
    if verdict.outcome == FAILED:
        raise AssertionError(f"{vector}: {verdict.words}\nwhy it is there: {vector.why}")
