"""Every operation between red zones and on poisoned memory, at odd shapes (conformance/judge/arena.py).

What is written outside a buffer, not written inside one, or read before it was written shows here, on every
backend and device; the checks themselves are seen to fail in meta/test_arena.py.
"""

from __future__ import annotations

import pytest

from arbitor.conformance.draw.strategies import sized_example
from arbitor.conformance.judge.arena import check_in_arena
from arbitor.conformance.judge.target import Arguments, Target, judge_of
from arbitor.conformance.operations.common import Total, busy
from arbitor.kernels.operations import OPERATIONS

# O, I, T, group size; operations on one matrix take the first two
SMALL = (((1, 1, 1), 4), ((1, 9, 3), 4), ((7, 1, 2), 8), ((5, 18, 1), 12), ((3, 33, 17), 32))
TILES = (((66, 192, 70), 64), ((65, 132, 33), 128), ((129, 257, 31), 32))
# rows that do not fit the registers of a program
LONG = (((2, 8197), 4), ((33, 1028), 4))
ROW_OPERATIONS = ("quantise_nearest", "quantise_nearest_both", "quantise_stochastic")
SHIFTS = {0: "aligned", 1: "one element off"}
BUFFERS = "buffers between red zones"
CLAUSES = ("ARB-UPD-003", "ARB-PACK-002", "ARB-LIN-001", "ARB-QUANT-011")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Operations and shifts around tiles, or one skip where the oracle would have to judge them."""
    if "tiled" not in metafunc.fixturenames:
        return
    cases = [
        pytest.param((operation, shift), id=f"{operation}-{name}")
        for operation in OPERATIONS
        for shift, name in SHIFTS.items()
    ]
    if judge_of(metafunc.config.getoption("--backend")).arrays == "lists":
        reason = "lists of Python integers judge buffers of small sizes only"
        cases = [pytest.param(None, id="all", marks=pytest.mark.skip(reason))]
    metafunc.parametrize("tiled", cases)


def arguments_for(operation: str, sizes: tuple[int, ...], group_size: int) -> Arguments:
    """Dense arguments of a call of that size."""
    if operation == "philox":
        words = {"seed": 2**33 + 5, "step": 3, "stream": 18}
        return {"first": 4 * sizes[0] + 1, "count": sizes[0] * sizes[1]} | words
    arguments = OPERATIONS[operation].arguments
    extents = sizes if {"q_x", "q_d", "tokens", "rows"} & set(arguments) else sizes[:2]
    return busy(sized_example(operation, sum(sizes), extents, group_size))


@pytest.mark.clause(*CLAUSES)
@pytest.mark.parametrize("shift", SHIFTS, ids=SHIFTS.values())
@pytest.mark.parametrize("operation", OPERATIONS)
def test_small(target: Target, operation: str, shift: int, total: Total) -> None:
    """Extents of 1, short last groups and bytes; arguments on a boundary of 256 bytes, and an element off."""
    for sizes, group_size in SMALL:
        total(BUFFERS, check_in_arena(target, operation, arguments_for(operation, sizes, group_size), shift))


@pytest.mark.clause(*CLAUSES)
def test_around_tiles(target: Target, tiled: tuple[str, int], total: Total) -> None:
    """Several tiles and a part of one; the fast ways of operands on boundaries, and the other ways."""
    operation, shift = tiled
    for sizes, group_size in (*TILES, *(LONG if operation in ROW_OPERATIONS else ())):
        total(BUFFERS, check_in_arena(target, operation, arguments_for(operation, sizes, group_size), shift))


@pytest.mark.clause("ARB-UPD-003", "ARB-LIN-005", "ARB-UPD-002")
@pytest.mark.parametrize("operation", ["weight_gradient", "linear_update"])
def test_operands_over_tokens(target: Target, operation: str, total: Total) -> None:
    """Operands in the layout that training has, which kernels read where they are."""
    sizes = (7, 64, 16) if target.judge.arrays == "lists" else (66, 192, 80)
    arguments = arguments_for(operation, sizes, 64)
    total(BUFFERS, check_in_arena(target, operation, arguments, turned=("q_g", "q_x")))
