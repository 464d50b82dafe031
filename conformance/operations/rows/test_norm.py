"""`norm`: rows over their root mean square."""

from __future__ import annotations

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

test_agrees, test_ends = agreement("norm", "ARB-NORM-001", "ARB-ROW-001", "ARB-FLOAT-001")
test_refuses = refusals("norm")
test_layouts = layouts("norm")
test_repeats = repetition("norm")


def normed(target: Target, x: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = target.check("norm", {"x": x})["y"]
    return found


@pytest.mark.clause("ARB-NORM-001")
def test_signs_over_their_size(target: Target) -> None:
    """Of equal magnitudes y is the sign, whatever the size, down to where x * 1024 is less."""
    signs = float32([1, -1, -1, 1, 1])
    for power in (-9, 0, 13, 120):
        assert normed(target, (signs * 2.0**power)[None]).tolist() == [signs.tolist()]
    for power in (-11, -50, -94):
        assert normed(target, (signs * 2.0**power)[None]).tolist() == [(signs * 2.0 ** (power + 10)).tolist()]


@pytest.mark.clause("ARB-NORM-001")
def test_below_the_lowest_exponent(target: Target) -> None:
    """At e = -100 units of 2^-116 are left; what is less, zeros of both signs and subnormals are +0.0."""
    x = from_bits([[0, 1 << 31], [1, 0x807FFFFF], [0x00800000, 0]])
    assert to_bits(normed(target, x)) == [[0, 0]] * 3
    x = float32([[2.0**-116, -(2.0**-117)], [2.0**-115, 0]])
    assert normed(target, x).tolist() == [[2.0**-106, 0], [2.0**-105, 0]]


@pytest.mark.clause("ARB-FLOAT-001")
@pytest.mark.parametrize("seed", range(3))
def test_roots_and_quotients_are_rounded(target: Target, seed: int) -> None:
    """Many rows of one and two elements: a root or a reciprocal that is off by one bit shows in some."""
    rng = np.random.default_rng(seed)
    for columns in (2, 3):
        x = rng.standard_normal((300, columns)) * 2.0 ** rng.integers(-6, 7, (300, columns))
        normed(target, torch.from_numpy(x.astype(np.float32)))


@pytest.mark.clause("ARB-ROW-001")
@pytest.mark.parametrize("pattern", POISON_SPIKES, ids=hex)
def test_poison_takes_its_own_row_only(target: Target, pattern: int) -> None:
    for columns in (1, 4, 33):
        for place in {0, columns // 2, columns - 1}:
            x = torch.full((3, columns), 3.0)
            x[1, place] = from_bits([pattern])[0]
            found = to_bits(normed(target, x))
            assert found == [[0x3F800000] * columns, [0x7FC00000] * columns, [0x3F800000] * columns]


@pytest.mark.clause("ARB-NORM-001")
@pytest.mark.parametrize("columns", [4095, 4097, 9001])
def test_sums_of_long_rows(target: Target, columns: int) -> None:
    """Kernels take a long row in parts; S is beyond 32 bits from 4 elements on."""
    x = torch.full((2, columns), 127.0)
    x[1, columns - 1] = -127.0
    found = normed(target, x)
    assert found.abs().eq(1).all()
    assert found[1, -1] == -1
