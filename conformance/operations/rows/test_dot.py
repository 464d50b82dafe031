"""`dot`: products of rows, each summed."""

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
    to_bits,
)

test_agrees, test_ends = agreement("dot", "ARB-DOT-001", "ARB-ROW-001", "ARB-FLOAT-002")
test_refuses = refusals("dot")
test_layouts = layouts("dot")
test_repeats = repetition("dot")


def product(target: Target, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = target.check("dot", {"a": a, "b": b})["y"]
    return found


@pytest.mark.clause("ARB-DOT-001")
def test_whole_numbers(target: Target) -> None:
    """Of a row whose largest element is 127 * 256 nothing that is whole is dropped."""
    a = float32([[32512, 1, -2, 0], [32512, 5, 7, 9]])
    b = float32([[1, 32512, 3, -1], [-32512, 0, 1, 2]])
    assert product(target, a, b).tolist() == float32([2 * 32512 - 6, -(32512**2) + 25]).tolist()


@pytest.mark.clause("ARB-DOT-001", "ARB-FLOAT-002")
def test_scales_multiply(target: Target) -> None:
    one = torch.ones(1, 3)
    for k, right in (
        (-60, 3 * 2.0**-120),
        (-64, 0.0),
        (62, 3 * 2.0**124),
        (63, 3 * 2.0**126),
        (64, float("inf")),
    ):
        assert product(target, one * 2.0**k, one * 2.0**k).tolist() == [right]
    assert product(target, one * 2.0**70, one * -(2.0**70)).tolist() == [float("-inf")]


@pytest.mark.clause("ARB-DOT-001")
@pytest.mark.parametrize("columns", [4097, 9001])
def test_sums_of_long_rows(target: Target, columns: int) -> None:
    a = torch.full((2, columns), 127.0)
    b = a.clone()
    b[1, columns // 2 :] = -127.0
    exact = [columns * 127**2, (2 * (columns // 2) - columns) * 127**2]
    assert product(target, a, b).tolist() == float32(exact).tolist()


@pytest.mark.clause("ARB-ROW-001")
@pytest.mark.parametrize("pattern", POISON_SPIKES, ids=hex)
def test_poison_takes_its_own_row_only(target: Target, pattern: int) -> None:
    for poisoned in ("a", "b"):
        both = {"a": torch.ones(3, 5), "b": torch.ones(3, 5)}
        both[poisoned][1, 3] = from_bits([pattern])[0]
        assert to_bits(product(target, **both)) == [0x40A00000, 0x7FC00000, 0x40A00000]
