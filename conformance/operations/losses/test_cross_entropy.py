"""`cross_entropy`: what rows of logits say of their targets, and the gradient of that."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from arbitor.conformance.draw.arrays import POISON_SPIKES
from arbitor.conformance.judge.target import Arguments, Target
from arbitor.conformance.operations.common import (
    agreement,
    from_bits,
    int64,
    layouts,
    refusals,
    repetition,
    to_bits,
)
from arbitor.conformance.operations.refused.device_refusals import refuses_on_device
from arbitor.reference.losses import exponential

test_agrees, test_ends = agreement(
    "cross_entropy", "ARB-LOSS-001", "ARB-EXP-001", "ARB-EXP-002", "ARB-EXP-003", "ARB-FLOAT-001"
)
test_refuses = refusals("cross_entropy")
test_layouts = layouts("cross_entropy")
test_repeats = repetition("cross_entropy")

OCTAVE = 2**20
NATS = math.log(2) / OCTAVE


def judged(target: Target, x: torch.Tensor, targets: torch.Tensor) -> Arguments:
    return target.check("cross_entropy", {"x": x, "targets": targets})


@pytest.mark.clause("ARB-EXP-003")
@pytest.mark.parametrize("low", [30, 31, 40, 59])
def test_logarithms(target: Target, low: int) -> None:
    """At most 1.01 units below log2, and never above; powers of two are exact, and their neighbours."""
    rng = np.random.default_rng(low)
    n = rng.integers(2**low, 2 ** (low + 1), 20_000)
    n[:4] = 2**low, 2**low + 1, 2 ** (low + 1) - 1, 2**low
    below = np.log2(n.astype(np.longdouble)) * OCTAVE - exponential.log2(n)
    assert (below > -1e-6).all()
    assert (below < 1.01).all()
    assert exponential.log2(n[:1]) == low * OCTAVE


@pytest.mark.clause("ARB-LOSS-001")
def test_it_is_the_cross_entropy(target: Target) -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(40, 30, generator=generator) * 4
    targets = torch.randint(0, 30, (40,), generator=generator)
    found = judged(target, x, targets)
    wide = x.double().requires_grad_()
    right = torch.nn.functional.cross_entropy(wide, targets, reduction="none")
    right.sum().backward()
    assert wide.grad is not None
    assert ((found["losses"] * NATS - right).abs() < 3 * NATS).all()
    assert ((found["dx"].double() - wide.grad).abs() < 1e-6).all()


@pytest.mark.clause("ARB-LOSS-001")
def test_of_many_classes(target: Target) -> None:
    """Equal logits of C classes have a loss of log2(C) octaves; sums of weights need more than 32 bits."""
    for k in (0, 1, 5, 13):
        x, targets = torch.full((2, 2**k), -7.5), int64([0, 2**k - 1])
        found = judged(target, x, targets)
        assert found["losses"].tolist() == [k * OCTAVE] * 2
        assert found["dx"][0, 0] == found["dx"][1, -1] == 2.0**-k - 1


@pytest.mark.clause("ARB-LOSS-001", "ARB-EXP-002")
def test_of_a_target_that_is_far(target: Target) -> None:
    """Where nothing is left of a probability its loss goes on, to 2^20 octaves."""
    for far in (25.0, 100.0, 5000.0, 3e38):
        x = torch.zeros(1, 2)
        x[0, 1] = -far
        found = judged(target, x, int64([1]))
        octaves = min(far / math.log(2), 2.0**20)
        assert abs(found["losses"].item() / OCTAVE - octaves) < octaves * 1e-6
        assert found["dx"].tolist() == [[1, -1]]


@pytest.mark.clause("ARB-LOSS-001", "ARB-ROW-001")
@pytest.mark.parametrize("pattern", POISON_SPIKES, ids=hex)
def test_poison_takes_its_own_row_only(target: Target, pattern: int) -> None:
    for place in (0, 3):
        x = torch.zeros(3, 4)
        x[1, place] = from_bits([pattern])[0]
        found = judged(target, x, int64([0, 0, 0]))
        assert found["losses"].tolist() == [2 * OCTAVE, -1, 2 * OCTAVE]
        clean = [0xBF400000, *[0x3E800000] * 3]
        assert to_bits(found["dx"]) == [clean, [0x7FC00000] * 4, clean]


@pytest.mark.clause("ARB-LOSS-001")
@pytest.mark.parametrize("place", [0, 4096, 9000])
def test_long_rows(target: Target, place: int) -> None:
    x = torch.full((2, 9001), -30.0)
    x[1, place] = 0.0
    found = judged(target, x, int64([place, place]))
    assert found["losses"][1] == 0
    assert found["dx"][1, place] == 0


@pytest.mark.clause("ARB-LOSS-002")
@pytest.mark.parametrize("wrong", [-1, -100, -(2**63), 3, 2**32, 2**63 - 1])
@pytest.mark.parametrize("position", [0, 4])
def test_refuses_a_target_outside_the_classes(target: Target, wrong: int, position: int) -> None:
    targets = int64([0] * 5)
    targets[position] = wrong
    arguments: Arguments = {"x": torch.zeros(5, 3), "targets": targets}
    if target.device == "cpu":
        target.refuses("cross_entropy", arguments, ValueError, "targets", position, wrong)
    else:
        refuses_on_device(target, "cross_entropy", arguments, position, wrong)
