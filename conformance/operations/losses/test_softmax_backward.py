"""`softmax_backward`: the gradient of `softmax` with respect to its argument."""

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

test_agrees, test_ends = agreement(
    "softmax_backward", "ARB-SOFT-002", "ARB-ROW-001", "ARB-FLOAT-001", "ARB-FLOAT-002"
)
test_refuses = refusals("softmax_backward")
test_layouts = layouts("softmax_backward")
test_repeats = repetition("softmax_backward")


def gradient(target: Target, dp: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = target.check("softmax_backward", {"dp": dp, "p": p})["dx"]
    return found


@pytest.mark.clause("ARB-SOFT-002")
@pytest.mark.parametrize("columns", [2, 9, 64, 4097])
def test_it_is_the_gradient(target: Target, columns: int) -> None:
    """But for what fixed point drops: a part in 2^8 of the largest element of a row is more than that."""
    generator = torch.Generator().manual_seed(columns)
    p = torch.randn(5, columns, generator=generator).softmax(1)
    dp = torch.randn(5, columns, generator=generator)
    found = gradient(target, dp, p).double()
    p, dp = p.double(), dp.double()
    right = p * (dp - (p * dp).sum(1, keepdim=True))
    assert ((found - right).abs().amax(1) < right.abs().amax(1) / 256).all()


@pytest.mark.clause("ARB-SOFT-002")
def test_whole_numbers(target: Target) -> None:
    """t is the mean of dp: here (64 + 32) / 4 = 24 of p = 1/4 each."""
    dp, p = float32([[64, 32, 0, 0]]), torch.full((1, 4), 0.25)
    assert gradient(target, dp, p).tolist() == [[10, 2, -6, -6]]


@pytest.mark.clause("ARB-SOFT-002")
def test_what_are_no_probabilities(target: Target) -> None:
    """127 * 2^-6 is the last float whose exponent is -6; the next one, and a NaN, poison their row."""
    dp = torch.ones(2, 2)
    edge = from_bits([[0x3FFE0000, 0], [0x3FFE0001, 0]])
    found = to_bits(gradient(target, dp, edge))
    assert found[0] != [0x7FC00000] * 2
    assert found[1] == [0x7FC00000] * 2


@pytest.mark.clause("ARB-ROW-001")
@pytest.mark.parametrize("pattern", POISON_SPIKES, ids=hex)
def test_poison_takes_its_own_row_only(target: Target, pattern: int) -> None:
    for poisoned in ("dp", "p"):
        both = {"dp": torch.ones(3, 4), "p": torch.full((3, 4), 0.25)}
        both[poisoned][1, 3] = from_bits([pattern])[0]
        assert to_bits(gradient(target, **both)) == [[0] * 4, [0x7FC00000] * 4, [0] * 4]
