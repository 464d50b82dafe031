"""`pack_dense`: trits to bytes, five a byte in base 3."""

import pytest

from arbitor.conformance.draw.strategies import example
from arbitor.conformance.judge.target import Target
from arbitor.conformance.operations.common import agreement, int8, layouts, refusals, repetition
from arbitor.conformance.operations.refused.first_illegal import first_of_two

test_agrees, test_ends = agreement("pack_dense", "ARB-PACK-005")
test_refuses = refusals("pack_dense")
test_layouts = layouts("pack_dense")
test_repeats = repetition("pack_dense")
test_the_first_of_two_illegal_elements_is_named = first_of_two("pack_dense", "ARB-PACK-004", "ARB-PACK-005")


@pytest.mark.clause("ARB-PACK-005")
@pytest.mark.parametrize("columns", range(1, 12))
def test_one_trit_is_one_power_of_three(target: Target, columns: int) -> None:
    for i in range(columns):
        for trit in (-1, 1):
            row = [0] * columns
            row[i] = trit
            expected = [121] * -(-columns // 5)  # 11111 in base 3
            expected[i // 5] += trit * 3 ** (i % 5)
            assert target.check("pack_dense", {"trits": int8([row])})["dense"].tolist() == [expected]


@pytest.mark.clause("ARB-PACK-004", "ARB-PACK-005")
@pytest.mark.parametrize("value", [-128, -2, 2, 127])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (2, 5)])
def test_refuses_what_is_no_trit(target: Target, value: int, row: int, column: int) -> None:
    trits = int8([[0] * 6] * 3)
    trits[row, column] = value
    target.refuses("pack_dense", {"trits": trits}, ValueError, row, column, value)


@pytest.mark.clause("ARB-PACK-007")
@pytest.mark.parametrize("seed", range(8))
def test_formats_convert_without_loss(target: Target, seed: int) -> None:
    trits = example("pack", seed)["trits"]
    columns = trits.shape[1]
    codes = target.aid("pack", {"trits": trits})["codes"]
    unpacked = target.aid("unpack", {"codes": codes, "columns": columns})["trits"]
    dense = target.check("pack_dense", {"trits": unpacked})["dense"]
    again = target.aid("unpack_dense", {"dense": dense, "columns": columns})["trits"]
    assert again.tolist() == trits.tolist()
    assert target.aid("pack", {"trits": again})["codes"].tolist() == codes.tolist()
