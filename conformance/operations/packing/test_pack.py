"""`pack`: trits to bytes, four a byte."""

import pytest

from arbitor.conformance.judge.target import Target
from arbitor.conformance.operations.common import agreement, int8, layouts, refusals, repetition
from arbitor.conformance.operations.refused.first_illegal import first_of_two

test_agrees, test_ends = agreement("pack", "ARB-PACK-001", "ARB-PACK-002")
test_refuses = refusals("pack")
test_layouts = layouts("pack")
test_repeats = repetition("pack")
test_the_first_of_two_illegal_elements_is_named = first_of_two("pack", "ARB-PACK-004")


@pytest.mark.clause("ARB-PACK-001", "ARB-PACK-002")
def test_example_of_the_specification(target: Target) -> None:
    assert target.check("pack", {"trits": int8([[-1, 0, 1, 1, 0]])})["codes"].tolist() == [[164, 85]]


@pytest.mark.clause("ARB-PACK-001", "ARB-PACK-002")
@pytest.mark.parametrize("columns", range(1, 10))
def test_one_trit_is_in_its_own_two_bits(target: Target, columns: int) -> None:
    for i in range(columns):
        for trit in (-1, 1):
            row = [0] * columns
            row[i] = trit
            expected = [0x55] * -(-columns // 4)
            expected[i // 4] += trit << 2 * (i % 4)
            assert target.check("pack", {"trits": int8([row, row])})["codes"].tolist() == [expected] * 2


@pytest.mark.clause("ARB-PACK-004")
@pytest.mark.parametrize("value", [-128, -2, 2, 3, 127])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (1, 3), (2, 4)])
def test_refuses_what_is_no_trit(target: Target, value: int, row: int, column: int) -> None:
    trits = int8([[0] * 5] * 3)
    trits[row, column] = value
    target.refuses("pack", {"trits": trits}, ValueError, row, column, value)
