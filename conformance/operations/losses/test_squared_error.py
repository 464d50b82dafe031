"""`squared_error`: squares of differences, summed row by row."""

from __future__ import annotations

import pytest
import torch

from arbitor.conformance.draw.arrays import POISON_SPIKES
from arbitor.conformance.judge.target import Target
from arbitor.conformance.operations.common import (
    agreement,
    float32,
    from_bits,
    layouts,
    refusals,
    repetition,
)

test_agrees, test_ends = agreement("squared_error", "ARB-LOSS-003", "ARB-FLOAT-001")
test_refuses = refusals("squared_error")
test_layouts = layouts("squared_error")
test_repeats = repetition("squared_error")


def losses(target: Target, x: torch.Tensor, y: torch.Tensor) -> list[int]:
    found: list[int] = target.check("squared_error", {"x": x, "y": y})["losses"].tolist()
    return found


@pytest.mark.clause("ARB-LOSS-003")
def test_units(target: Target) -> None:
    """2^-10 is one unit, and what is cut is cut element by element; 2^10 is the most that counts."""
    x = float32([[2.0**-10, 2.0**-11, 0], [1.5, -1.5, 0], [2.0**10, 2.0**11, -3e38], [2.0**-70, 0, 0]])
    assert losses(target, x, torch.zeros(4, 3)) == [1, 9 * 2**19, 3 * 2**40, 0]
    assert losses(target, torch.zeros(4, 3), x) == [1, 9 * 2**19, 3 * 2**40, 0]


@pytest.mark.clause("ARB-LOSS-003")
@pytest.mark.parametrize("columns", [4097, 9001])
def test_sums_of_long_rows(target: Target, columns: int) -> None:
    x = torch.full((2, columns), 1024.0)
    assert losses(target, x, torch.zeros_like(x)) == [columns << 40] * 2


@pytest.mark.clause("ARB-LOSS-003")
@pytest.mark.parametrize("pattern", POISON_SPIKES, ids=hex)
def test_poison_takes_its_own_row_only(target: Target, pattern: int) -> None:
    for poisoned in (0, 1):
        both = [torch.ones(3, 4), torch.zeros(3, 4)]
        both[poisoned][1, 2] = from_bits([pattern])[0]
        assert losses(target, *both) == [4 << 20, -1, 4 << 20]
    same = torch.full((1, 2), from_bits([pattern]).item())
    assert losses(target, same, same) == [-1]
    assert losses(target, float32([[3e38]]), float32([[-3e38]])) == [-1]
