"""Backends whose sums are too narrow fail with the clause of the sum first, whatever the width and the lanes.

Each is judged in a process of its own, by the tests of one operation.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from arbitor.conformance.operations.rails import CASES
from arbitor.conformance.tools.apart import Seen, run
from arbitor.conformance.tools.commands import located
from arbitor.conformance.tools.planted import planted
from arbitor.judge.blame import Ran, blamed
from arbitor.judge.suite import find_suite

# {dtype} sums of {lanes} lanes, which are added in int32
NARROW = """
import importlib
import torch

DTYPE, LANES = torch.{dtype}, {lanes}

def lane(a, b):
    if DTYPE.is_floating_point:
        return (a.to(DTYPE) @ b.to(DTYPE).t()).to(torch.int32)
    return (a.double() @ b.double().t()).long().to(DTYPE).to(torch.int32)

def matmul_nt(a, b, bound):
    return sum(lane(a[:, k::LANES], b[:, k::LANES]) for k in range(LANES))

def embedding_gradient(tokens, q, rows):
    honest(tokens, q[:, :1], rows)  # refuses what is illegal
    found = torch.zeros(rows, q.shape[1], dtype=torch.int32)
    for k in range(LANES):
        lane = torch.zeros(rows, q.shape[1], dtype=DTYPE)
        found += lane.index_add_(0, tokens[k::LANES], q[k::LANES].to(DTYPE)).to(torch.int32)
    return found

honest = eager.embedding_gradient
for name in ("linear_forward", "input_gradient", "weight_gradient"):
    importlib.import_module("arbitor.kernels.eager.linear." + name).matmul_nt = matmul_nt
table = importlib.import_module("arbitor.kernels.eager.embedding.embedding_update")
table.embedding_gradient = embedding_gradient
"""
CLAUSE = {
    "linear_forward": "ARB-LIN-001",
    "input_gradient": "ARB-LIN-002",
    "weight_gradient": "ARB-LIN-005",
    "linear_update": "ARB-LIN-005",
    "embedding_gradient": "ARB-EMB-003",
    "embedding_update": "ARB-EMB-003",
}
# operation, dtype of its sums, lanes; what a float32 loses of a table's sums changes no vote
PLANTED = [
    *((operation, "int16", 8) for operation in CASES),
    ("linear_forward", "int8", 1),
    ("weight_gradient", "int8", 1),
    ("input_gradient", "int16", 1),
    ("linear_forward", "int16", 128),
    ("linear_update", "int16", 128),
    ("weight_gradient", "bfloat16", 1),
    ("linear_update", "bfloat16", 1),
    ("embedding_update", "bfloat16", 1),
    ("embedding_gradient", "float16", 1),
    ("linear_forward", "float32", 1),
    ("input_gradient", "float32", 1),
    ("linear_update", "float32", 1),
    ("embedding_gradient", "float32", 1),
]


def judged(folder: Path, operation: str, dtype: str, lanes: int) -> Seen:
    """The tests of what the operation gives, on the torch backend with such sums."""
    name = planted(folder, NARROW.format(dtype=dtype, lanes=lanes))
    checkout = find_suite().parent
    settings = checkout / "pyproject.toml"
    layout = ["-c", str(settings if settings.is_file() else os.devnull), "--import-mode=importlib"]
    options = ["-q", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:xdist", "--examples", "unshrunk"]
    which = ["-k", "not refuses and not layouts and not repeats", *map(located, [f"test_{operation}.py"])]
    return run(folder, *layout, *options, "--backend", name, *which)


@pytest.mark.parametrize(("operation", "dtype", "lanes"), PLANTED)
def test_narrow_sums_fail_with_the_clause_of_the_sum(
    operation: str, dtype: str, lanes: int, tmp_path: Path
) -> None:
    seen = judged(tmp_path, operation, dtype, lanes)
    assert seen.failed, seen.printed
    cases = [Ran(test, seen.clauses[test], True) for test in seen.failed]
    cases += [Ran(test, seen.clauses[test], False) for test in seen.passed]
    assert next(iter(blamed(cases))) == CLAUSE[operation]
    assert any(test.endswith("::test_same_sign_rails") for test in seen.failed) or dtype == "float32"
