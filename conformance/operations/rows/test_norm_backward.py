"""`norm_backward`: the gradient of `norm` with respect to its argument."""

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

test_agrees, test_ends = agreement(
    "norm_backward", "ARB-NORM-002", "ARB-ROW-001", "ARB-FLOAT-001", "ARB-FLOAT-002"
)
test_refuses = refusals("norm_backward")
test_layouts = layouts("norm_backward")
test_repeats = repetition("norm_backward")


def gradient(target: Target, dy: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = target.check("norm_backward", {"dy": dy, "x": x})["dx"]
    return found


def drawn(rows: int, columns: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@pytest.mark.clause("ARB-NORM-002")
@pytest.mark.parametrize("columns", [2, 9, 64, 4097])
def test_it_is_the_gradient(target: Target, columns: int) -> None:
    """Of x over its root mean square: dy less what it has along x, over that root. Exactly, but for what
    fixed point drops: 2^-8 of the largest element of a row is more than that."""
    x, dy = drawn(5, columns, 1), drawn(5, columns, 2)
    found = gradient(target, dy, x)
    for row, change, got in zip(x.double(), dy.double(), found.double(), strict=True):
        size = (row @ row / columns) ** 0.5
        right = (change - row * (row @ change) / (row @ row)) / size
        assert (got - right).abs().max() < right.abs().max() / 256


@pytest.mark.clause("ARB-NORM-002")
def test_a_gradient_along_x_is_gone(target: Target) -> None:
    """As f of dy and of x are equal, so are their sums; t is 1 to the bit."""
    x = drawn(8, 33, 3)
    assert gradient(target, x * 4, x).eq(0).all()


@pytest.mark.clause("ARB-NORM-002")
def test_where_the_factor_is_at_its_bound(target: Target) -> None:
    """There y = x * 1024, and nothing is taken out of dy."""
    x = float32([[2.0**-12, 2.0**-13], [0, 0], [2.0**-120, 0]])
    dy = float32([[3, 4], [5, -6], [7, 0]])
    assert gradient(target, dy, x).tolist() == (dy * 1024).tolist()


@pytest.mark.clause("ARB-FLOAT-002")
def test_what_leaves_float32(target: Target) -> None:
    """Below 2^-126 it is +0.0, of a negative value too, and from 2^128 on infinite."""
    x = float32([[2.0**64, 0.0], [2.0**-9, 0.0], [1.0, 0.0]])
    small = from_bits([[0x80800000, 0x81000000]])  # -2^-126 and -2^-125
    assert to_bits(gradient(target, small.repeat(3, 1), x))[0] == [0, 0]
    large = from_bits([[0x7F000000, 0xFF7FFFFF]])
    found = to_bits(gradient(target, large.repeat(3, 1), x))
    assert found[1][1] == 0xFF800000
    assert found[0][1] & 0x7F800000 not in (0, 0x7F800000)


@pytest.mark.clause("ARB-FLOAT-001")
@pytest.mark.parametrize("seed", range(3))
def test_no_product_is_fused(target: Target, seed: int) -> None:
    """Rows of integers of which f * t and f_d are alike: what is left is the rounding of f * t."""
    rng = np.random.default_rng(seed)
    x = rng.integers(1, 2**23, (200, 4))
    dy = x * 3 + rng.integers(-3, 4, x.shape)
    gradient(target, *(torch.from_numpy(a.astype(np.float32)) for a in (dy, x)))


@pytest.mark.clause("ARB-ROW-001")
@pytest.mark.parametrize("poisoned", ["dy", "x"])
@pytest.mark.parametrize("pattern", POISON_SPIKES, ids=hex)
def test_poison_takes_its_own_row_only(target: Target, pattern: int, poisoned: str) -> None:
    for columns in (1, 4, 33):
        both = {"dy": torch.ones(3, columns), "x": torch.full((3, columns), 2.0**-12)}
        both[poisoned][1, columns // 2] = from_bits([pattern])[0]
        found = gradient(target, **both)
        assert to_bits(found[1]) == [0x7FC00000] * columns
        assert found[::2].tolist() == [[1024.0] * columns] * 2


@pytest.mark.clause("ARB-FLOAT-002", "ARB-NORM-002")
def test_what_is_below_the_smallest_is_zero(target: Target) -> None:
    """Results from 2^-119 down to 2^-131, also those that a subnormal could hold, or round to 2^-126."""
    signs = float32([[1, -1, 1, 1]])
    x = torch.cat([signs * 2.0**26] * 36)
    dy = torch.zeros(36, 4)
    dy[:, 0] = float32([2.0 ** (-93 - place // 3) * (1 + place % 3 / 4) for place in range(36)])
    dx = target.check("norm_backward", {"dy": dy, "x": x})["dx"]
    least = dx.abs()[dx != 0].min().item()
    assert least >= 2.0**-126
    assert (dx[-1] == 0).all()
