"""A milliard and more of output elements: large shapes against the exact torch backend on the same GPU.

The reference would take hours for them. It judges the torch backend in the suite, and small calls of the same
arguments here, which every lane runs.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from arbitor.conformance.judge.target import REFERENCE, Target, substituted, target_of
from arbitor.conformance.operations.common import Total
from arbitor.conformance.operations.wide.large import compare_large, elements, extents_of
from arbitor.kernels.operations import OPERATIONS
from arbitor.kernels.registry import select

JUDGE = "torch"
COMPARED = "output elements compared at large shapes"
LEAST = 1_100_000_000

UPDATES = [name for name, operation in OPERATIONS.items() if "rule" in operation.scalars]
# rows, columns, tokens, group size: whole tiles, and no extent that is a multiple of anything
SHAPES = ((8192, 8192, 8192, 128), (4099, 8197, 4103, 64))
A_NUMBER_A_ROW = ("dot", "squared_error", "digest")
SMALL = ((16, 64, 32, 32), (19, 69, 35, 12))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The large calls, or one skip that says why there are none."""
    if "large" not in metafunc.fixturenames:
        return
    reason = None
    if metafunc.config.getoption("--device") != "cuda":
        reason = "a milliard elements want a GPU: --device cuda"
    elif select(metafunc.config.getoption("--backend")).module is select(JUDGE).module:
        reason = "at large shapes the torch backend is the judge"
    skipped = [pytest.param(None, id="all", marks=pytest.mark.skip(reason))] if reason else []
    cases = [pytest.param((o, s, "scaled"), id=f"{o}, {s}") for o in OPERATIONS for s in SHAPES]
    cases += [pytest.param((o, s, "adaptive"), id=f"{o}, {s}, adaptive") for o in UPDATES for s in SHAPES]
    metafunc.parametrize("large", skipped or cases)


@pytest.mark.clause("ARB-UPD-003", "ARB-UPD-002", "ARB-LIN-001", "ARB-LIN-002", "ARB-LIN-005", "ARB-RNG-003")
@pytest.mark.clause("ARB-MOM-002", "ARB-MOM-003", "ARB-VOTE-005")
def test_large(target: Target, large: tuple[str, tuple[int, int, int, int], str], total: Total) -> None:
    operation, shape, rule = large
    extents = extents_of(*shape)
    compared = compare_large(target, select(JUDGE), operation, extents, rule)
    assert compared == elements(operation, extents)
    total(COMPARED, compared)
    if target.device == "cuda":
        torch.cuda.empty_cache()


@pytest.mark.clause("ARB-UPD-003")
def test_what_is_compared_is_enough() -> None:
    """Of every operation, and together; `test_large` asserts that it has compared what is counted here."""
    numbers = {o: sum(elements(o, extents_of(*shape)) for shape in SHAPES) for o in OPERATIONS}
    assert sum(numbers.values()) >= LEAST
    least = min(found for name, found in numbers.items() if name not in A_NUMBER_A_ROW)
    assert least >= 10_000_000


@pytest.mark.clause("ARB-UPD-003")
@pytest.mark.parametrize("shape", SMALL, ids=str)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_same_small(target: Target, operation: str, shape: tuple[int, int, int, int]) -> None:
    """The arguments and the comparison of large calls at a size for every lane."""
    judge = target.judge if target.backend.name == JUDGE else select(JUDGE)
    if target.device == "cuda" and judge.arrays != "torch":
        judge = select("arbitor.conformance.judge.on_host")
    extents = extents_of(*shape)
    for rule in ("scaled", "adaptive") if operation in UPDATES else ("scaled",):
        assert compare_large(target, judge, operation, extents, rule) == elements(operation, extents)


# rows, columns, tokens, group size of a call that writes a million elements; packed ones are bytes
MILLION = {
    "pack": (5120, 1029, 4, 64),
    "pack_dense": (5120, 1029, 4, 64),
    "linear_forward": (1024, 12, 1029, 12),
    "input_gradient": (8, 1029, 1024, 64),
    "embedding_forward": (1024, 1029, 1024, 64),
    "quantise_columns": (1024, 1029, 1024, 64),
    "cross_entropy": (4, 1029, 1024, 64),
    **dict.fromkeys(A_NUMBER_A_ROW, (1_000_003, 5, 4, 64)),
}
OTHERWISE = (1024, 1029, 4, 64)


@pytest.mark.clause("ARB-UPD-003")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_million_elements(target: Target, operation: str, total: Total, one_thread: None) -> None:
    """Against the judge: one wrong element in a million is seen without a GPU. (Of `initialise` a million
    trits, which are a quarter as many bytes.)"""
    target.needs(operation)
    if target.judge.arrays == "lists":
        pytest.skip("lists of Python integers judge a million elements in hours")
    if (target.backend.name, target.device) == ("triton", "cpu"):
        pytest.skip("Triton's interpreter takes half a minute for a million elements of every operation")
    judge = select("arbitor.conformance.judge.on_host") if target.device == "cuda" else target.judge
    extents = extents_of(*MILLION.get(operation, OTHERWISE))
    compared = compare_large(target, judge, operation, extents)
    assert compared >= (1_000_000 if operation != "initialise" else 250_000)
    total("output elements compared in calls of a million", compared)


def _last_result(found: Any) -> torch.Tensor:
    last: torch.Tensor = found[-1] if isinstance(found, tuple) else found
    return last


@pytest.mark.clause("ARB-UPD-003")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_one_wrong_bit_is_seen(operation: str) -> None:
    """In the last element of the last result, of a torch backend that is right in all others."""
    honest = target_of(JUDGE)

    def wrong(*arguments: Any, **named: Any) -> Any:
        found = getattr(honest.backend.module, operation)(*arguments, **named)
        last = _last_result(found)
        (last.view(torch.int32) if last.dtype == torch.float32 else last).view(-1)[-1] ^= 1
        return found

    broken = substituted(honest, operation, wrong)
    with pytest.raises(AssertionError, match=r"differs in 1 of"):
        compare_large(broken, select(REFERENCE), operation, extents_of(*SMALL[1]))
