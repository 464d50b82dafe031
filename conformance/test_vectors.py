"""Every test vector (docs/vectors.md) on the backend under test; each test has the clauses of its vector.

The judge has no part in it: what must come out is in the files. Calls that only the judges have to refuse are
made on both judges, whatever is under test.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from arbitor.conformance.target import ORACLE, REFERENCE, Target
from arbitor.kernels.registry import Backend, select
from arbitor.vector_check import FAILED, NOT_RUN, judge
from arbitor.vectors import JUDGES, Vector, default_folder, load

VECTORS = load(default_folder())


def of_judges(vector: Vector) -> bool:
    """Whether the call breaks a precondition, which a backend need not notice (ARB-LIN-006)."""
    return vector.refuses is not None and vector.refuses["seen_by"] == JUDGES


def params(vectors: Iterable[Vector]) -> list[Any]:
    return [pytest.param(v, id=v.id, marks=pytest.mark.clause(*v.clauses)) for v in vectors]


def passes(vector: Vector, backend: Backend, device: str = "cpu") -> None:
    verdict = judge(vector, backend, device)
    if verdict.outcome == NOT_RUN:
        pytest.skip(verdict.words)
    assert verdict.outcome != FAILED, f"{vector}: {verdict.words}\nwhy it is there: {vector.why}"


@pytest.mark.parametrize("vector", params(v for v in VECTORS if not of_judges(v)))
def test_vector(target: Target, vector: Vector) -> None:
    passes(vector, target.backend, target.device)


@pytest.mark.parametrize("name", [REFERENCE, ORACLE])
@pytest.mark.parametrize("vector", params(v for v in VECTORS if of_judges(v)))
def test_judges_look_at_elements(name: str, vector: Vector) -> None:
    passes(vector, select(name))
