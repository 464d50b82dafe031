"""`sigmoid`: 1 / (1 + e^-x), element by element."""

from __future__ import annotations

import pytest
import torch

from arbitor.conformance.draw.arrays import NANS
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

test_agrees, test_ends = agreement("sigmoid", "ARB-SOFT-003", "ARB-EXP-002", "ARB-FLOAT-001")
test_refuses = refusals("sigmoid")
test_layouts = layouts("sigmoid")
test_repeats = repetition("sigmoid")


def found(target: Target, x: torch.Tensor) -> torch.Tensor:
    y: torch.Tensor = target.check("sigmoid", {"x": x})["y"]
    return y


@pytest.mark.clause("ARB-SOFT-003")
def test_it_is_sigmoid(target: Target) -> None:
    x = torch.linspace(-25, 25, 4001)[None]
    assert (found(target, x).double() - x.double().sigmoid()).abs().max() < 3e-7


@pytest.mark.clause("ARB-SOFT-003")
def test_both_sides_are_one(target: Target) -> None:
    """sigmoid(x) and sigmoid(-x) are 1 together but for what their roundings add up to."""
    x = torch.linspace(0, 30, 1000)[None]
    both = found(target, x).double() + found(target, -x).double()
    assert (both - 1).abs().max() <= 2.0**-23


@pytest.mark.clause("ARB-SOFT-003")
def test_infinities_and_nans(target: Target) -> None:
    inf = float("inf")
    assert found(target, float32([[inf, -inf, 0.0, -0.0, 3e38, -3e38]])).tolist() == [[1, 0, 0.5, 0.5, 1, 0]]
    x = from_bits([[*NANS, 0]])
    assert to_bits(found(target, x)) == [[0x7FC00000] * len(NANS) + [0x3F000000]]
