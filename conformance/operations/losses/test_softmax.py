"""`softmax`: probabilities of rows."""

from __future__ import annotations

import math

import numpy as np
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
from arbitor.reference.losses import exponential

test_agrees, test_ends = agreement(
    "softmax", "ARB-SOFT-001", "ARB-EXP-001", "ARB-EXP-002", "ARB-ROW-001", "ARB-FLOAT-001"
)
test_refuses = refusals("softmax")
test_layouts = layouts("softmax")
test_repeats = repetition("softmax")


def probabilities(target: Target, x: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = target.check("softmax", {"x": x})["p"]
    return found


@pytest.mark.clause("ARB-EXP-001")
def test_every_fraction_of_an_octave(target: Target) -> None:
    """The polynomial over its whole domain: within 8.2 of 2^30 * 2^(-f / 2^20), never rising."""
    f = np.arange(2**20)
    found = exponential.fraction_power(f)
    exact = np.exp2(30 - f / 2**20)  # float64 errs by less than 2^-20 here
    assert np.abs(found - exact).max() < 8.2
    assert (np.diff(found) <= 0).all()
    assert found[0] == 2**30


@pytest.mark.clause("ARB-EXP-001", "ARB-EXP-002")
@pytest.mark.parametrize("seed", range(4))
def test_fractions_in_the_backend(target: Target, seed: int) -> None:
    """Differences of all sizes; the last row has those from which nothing is left."""
    rng = np.random.default_rng(seed)
    x = -rng.random((4, 500)) * np.array([[1], [20], [25], [1e-6]])
    x[:, 0] = 0
    x[3, 1:60] = -np.arange(1, 60) * math.log(2)
    probabilities(target, torch.from_numpy(x.astype(np.float32)))


@pytest.mark.clause("ARB-SOFT-001")
def test_it_is_softmax(target: Target) -> None:
    x = torch.randn(20, 50, generator=torch.Generator().manual_seed(1)) * 4
    found, right = probabilities(target, x).double(), x.double().softmax(1)
    assert ((found - right).abs() < right * 2e-6 + 1e-8).all()


@pytest.mark.clause("ARB-SOFT-001")
def test_what_is_equal_and_what_is_far(target: Target) -> None:
    """Equal elements share a row, at any height; 31 octaves below there is nothing left."""
    for height in (0.0, -3e38, 3e38, 1e-40):
        assert probabilities(target, torch.full((1, 4), height)).tolist() == [[0.25] * 4]
    far = 31 * math.log(2) + 1e-5
    x = float32([[0, -far, -3e38], [3e38, -3e38, 0]])
    assert probabilities(target, x).tolist() == [[1, 0, 0], [1, 0, 0]]


@pytest.mark.clause("ARB-SOFT-001")
@pytest.mark.parametrize("columns", [4097, 9001])
@pytest.mark.parametrize("place", [0, 4096])
def test_the_largest_of_a_long_row(target: Target, place: int, columns: int) -> None:
    x = torch.full((1, columns), -40.0)
    x[0, place] = -10.0
    found = probabilities(target, x)[0]
    assert found[place] == 1
    assert found.sum() == 1


@pytest.mark.clause("ARB-ROW-001")
@pytest.mark.parametrize("pattern", POISON_SPIKES, ids=hex)
def test_poison_takes_its_own_row_only(target: Target, pattern: int) -> None:
    for place in (0, 3):
        x = torch.zeros(3, 4)
        x[1, place] = from_bits([pattern])[0]
        assert to_bits(probabilities(target, x)) == [[0x3E800000] * 4, [0x7FC00000] * 4, [0x3E800000] * 4]
