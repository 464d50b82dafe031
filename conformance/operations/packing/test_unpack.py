"""`unpack`: bytes to trits, four a byte; where corrupt state is noticed."""

import pytest

from arbitor.conformance.judge.target import Target
from arbitor.conformance.operations.common import agreement, layouts, refusals, repetition, uint8
from arbitor.conformance.operations.refused.first_illegal import first_of_two

test_agrees, test_ends = agreement("unpack", "ARB-PACK-001")
test_refuses = refusals("unpack")
test_layouts = layouts("unpack")
test_repeats = repetition("unpack")
test_the_first_of_two_illegal_elements_is_named = first_of_two("unpack", "ARB-PACK-003")


@pytest.mark.clause("ARB-PACK-001")
def test_example_of_the_specification(target: Target) -> None:
    found = target.check("unpack", {"codes": uint8([[164, 85]]), "columns": 5})
    assert found["trits"].tolist() == [[-1, 0, 1, 1, 0]]


@pytest.mark.clause("ARB-PACK-003")
@pytest.mark.parametrize("field", range(4))
@pytest.mark.parametrize(("row", "byte"), [(0, 0), (5, 7), (2, 9)])
def test_refuses_code_3_in_every_field(target: Target, row: int, byte: int, field: int) -> None:
    codes = uint8([[0x55] * 10] * 6)
    codes[row, byte] |= 3 << 2 * field
    target.refuses("unpack", {"codes": codes, "columns": 40}, ValueError, row, byte, int(codes[row, byte]))


@pytest.mark.clause("ARB-PACK-002", "ARB-PACK-003")
@pytest.mark.parametrize("code", [0, 2, 3])
@pytest.mark.parametrize(("columns", "field"), [(c, f) for c in (5, 6, 7) for f in range(c - 4, 4)])
def test_refuses_padding_of_another_code(target: Target, columns: int, field: int, code: int) -> None:
    codes = uint8([[0x55] * 2] * 2)
    codes[1, 1] ^= (1 ^ code) << 2 * field
    target.refuses("unpack", {"codes": codes, "columns": columns}, ValueError, 1, int(codes[1, 1]))
