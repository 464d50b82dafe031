"""`unpack_dense`: bytes to trits, five a byte in base 3."""

import pytest

from arbitor.conformance.judge.target import Target
from arbitor.conformance.operations.common import agreement, layouts, refusals, repetition, uint8
from arbitor.conformance.operations.refused.first_illegal import first_of_two

test_agrees, test_ends = agreement("unpack_dense", "ARB-PACK-005")
test_refuses = refusals("unpack_dense")
test_layouts = layouts("unpack_dense")
test_repeats = repetition("unpack_dense")
test_the_first_of_two_illegal_elements_is_named = first_of_two("unpack_dense", "ARB-PACK-006")


@pytest.mark.clause("ARB-PACK-005")
def test_the_first_trit_is_least_significant(target: Target) -> None:
    found = target.check("unpack_dense", {"dense": uint8([[0, 242, 2 + 9, 122]]), "columns": 16})
    assert found["trits"].tolist() == [[-1] * 5 + [1] * 5 + [1, -1, 0, -1, -1] + [1]]


@pytest.mark.clause("ARB-PACK-006")
@pytest.mark.parametrize("value", range(243, 256))
@pytest.mark.parametrize(("row", "byte"), [(0, 0), (2, 1)])
def test_refuses_bytes_from_243_on(target: Target, row: int, byte: int, value: int) -> None:
    dense = uint8([[121] * 2] * 3)
    dense[row, byte] = value
    target.refuses("unpack_dense", {"dense": dense, "columns": 10}, ValueError, row, byte, value)


@pytest.mark.clause("ARB-PACK-006")
@pytest.mark.parametrize("wrong", [-1, 1])
@pytest.mark.parametrize(("columns", "field"), [(c, f) for c in range(6, 10) for f in range(c - 5, 5)])
def test_refuses_padding_of_another_code(target: Target, columns: int, field: int, wrong: int) -> None:
    dense = uint8([[121] * 2] * 2)
    dense[1, 1] += wrong * 3**field
    arguments = {"dense": dense, "columns": columns}
    target.refuses("unpack_dense", arguments, ValueError, 1, int(dense[1, 1]))
