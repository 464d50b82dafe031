"""`quantise_nearest`: rows of float32 to int8 and a power of two."""

import numpy as np
import pytest
import torch

from arbitor.conformance.draw.arrays import FLOATS, POISON_SPIKES
from arbitor.conformance.judge.target import Target
from arbitor.conformance.operations.common import (
    agreement,
    float32,
    from_bits,
    layouts,
    refusals,
    repetition,
)

test_agrees, test_ends = agreement("quantise_nearest", *(f"ARB-QUANT-00{i}" for i in (8, 1, 2, 3, 4, 6, 7)))
test_refuses = refusals("quantise_nearest")
test_layouts = layouts("quantise_nearest")
test_repeats = repetition("quantise_nearest")


def quantised(target: Target, x: torch.Tensor) -> tuple[list[list[int]], list[int]]:
    found = target.check("quantise_nearest", {"x": x})
    return found["q"].tolist(), found["exponents"].tolist()


@pytest.mark.clause("ARB-QUANT-003", "ARB-QUANT-004")
def test_ties_go_up(target: Target) -> None:
    below = float(np.nextafter(np.float32(0.5), np.float32(0)))
    x = float32([[127, 0.5, -0.5, 1.5, -1.5, 2.5, 126.5, -126.5, below, -below, 1 - below]])
    assert quantised(target, x) == ([[127, 1, 0, 2, -1, 3, 127, -126, 0, 0, 1]], [0])


@pytest.mark.clause("ARB-QUANT-002", "ARB-QUANT-006")
def test_127_times_a_power_and_its_neighbours(target: Target) -> None:
    """At 127 * 2^k the exponent is k and q is 127; one bit above, k + 1, and trunc makes q a tie of 63.5."""
    powers = range(-99, 122)
    exact = [k + 133 << 23 | 0x7E0000 for k in powers]
    for sign in (0, 1 << 31):
        x = from_bits([[sign | bits + step] for bits in exact for step in (-1, 0, 1)])
        q, e = quantised(target, x)
        assert e == [found for k in powers for found in (k, k, k + 1)]
        assert [row[0] for row in q] == ([-127, -127, -63] if sign else [127, 127, 64]) * len(powers)


@pytest.mark.clause("ARB-QUANT-003", "ARB-QUANT-004")
def test_what_is_cut_makes_a_tie(target: Target) -> None:
    """The float next to a tie, away from zero: f is the tie, which goes up on both sides."""
    beyond = [float(np.nextafter(np.float32(tie), np.float32(127))) for tie in (0.5, 1.5, 62.5)]
    x = float32([[127.0, *beyond, *(-value for value in beyond)]])
    assert quantised(target, x) == ([[127, 1, 2, 63, 0, -1, -62]], [0])


@pytest.mark.clause("ARB-QUANT-001", "ARB-QUANT-002")
def test_the_smallest_exponent(target: Target) -> None:
    """Zeros and subnormals are 0 at 2^-100; ties at 2^-101 go up there too."""
    x = from_bits([[0, 1 << 31], [1, 0x807FFFFF], [0x00800000, 0]])
    assert quantised(target, x) == ([[0, 0]] * 3, [-100] * 3)
    x = float32([[2.0**-101, -(2.0**-101)], [127 * 2.0**-100, 2.0**-100]])
    assert quantised(target, x) == ([[1, 0], [127, 1]], [-100] * 2)


@pytest.mark.clause("ARB-QUANT-007")
@pytest.mark.parametrize("pattern", POISON_SPIKES, ids=hex)
def test_poison_takes_its_own_row_only(target: Target, pattern: int) -> None:
    for columns in (1, 4, 33):
        for place in {0, columns // 2, columns - 1}:
            x = torch.full((3, columns), 3.0)
            x[1, place] = from_bits([pattern])[0]
            q, e = quantised(target, x)
            assert e == [-5, 127, -5]
            assert q == [[96] * columns, [0] * columns, [96] * columns]


@pytest.mark.clause("ARB-QUANT-007")
@pytest.mark.parametrize("seed", range(4))
def test_poison_among_random_patterns(target: Target, seed: int) -> None:
    """A float maximum in torch may be a NaN with its sign bit set; as an integer that looked finite, once."""
    patterns = FLOATS["NaNs"](np.random.default_rng(seed), (130, 40))
    _, e = quantised(target, from_bits(patterns.tolist()))
    finite = ((patterns & 0x7FFFFFFF) < 0x7F800000).all(axis=1)
    assert [found != 127 for found in e] == finite.tolist()
    assert 0 < finite.sum() < 130


@pytest.mark.clause("ARB-QUANT-008")
def test_rows_are_independent(target: Target) -> None:
    x = torch.arange(1, 8.0).repeat(5, 1) * float32([[1], [2], [-4], [0], [2.0**-120]])
    q, e = quantised(target, x)
    assert e == [-4, -3, -2, -100, -100]
    assert q[0] == q[1] == [16, 32, 48, 64, 80, 96, 112] == [-value for value in q[2]]
    assert q[3] == q[4] == [0] * 7


@pytest.mark.clause("ARB-QUANT-001", "ARB-QUANT-008")
@pytest.mark.parametrize("columns", [65_540, 65_541])
@pytest.mark.parametrize("place", [0, 8_200, 9_300, 65_536])
def test_the_largest_of_a_long_row(target: Target, place: int, columns: int) -> None:
    """127 somewhere among elements of 1: kernels take such a row in parts, one after another, and other paths
    where its length is no multiple of 4."""
    x = torch.ones(1, columns)
    x[0, place] = 127.0
    q, e = quantised(target, x)
    assert (q, e) == (x.int().tolist(), [0])
