"""`heads`: queries, keys and values of heads, normalised, rotated and in int8."""

from __future__ import annotations

import pytest
import torch

from arbitor.conformance.draw.arrays import POISON_SPIKES
from arbitor.conformance.judge.target import Target
from arbitor.conformance.operations.common import (
    agreement,
    float32,
    from_bits,
    int16,
    layouts,
    refusals,
    repetition,
)
from arbitor.kernels.heads import MOST_DIM, scale_of

test_agrees, test_ends = agreement("heads", "ARB-HEAD-001", "ARB-HEAD-002", "ARB-HEAD-003", "ARB-FLOAT-001")
test_refuses = refusals("heads")
test_layouts = layouts("heads")
test_repeats = repetition("heads")

STRAIGHT, QUARTER = 2**14, 0


def parts(target: Target, x: torch.Tensor, cos: int = STRAIGHT, sin: int = 0) -> dict[str, torch.Tensor]:
    """q, k, v [2 H] of x [3, 2, H], one position of one head, all its angles the same."""
    half = x.shape[-1]
    angles = {"cos": int16([[cos] * half]), "sin": int16([[sin] * half])}
    found = target.check("heads", {"x": x.view(1, 1, 3, 1, 2, half)} | angles)
    return {name: found[name].flatten() for name in ("q", "k", "v")}


@pytest.mark.clause("ARB-HEAD-001", "ARB-HEAD-003")
@pytest.mark.parametrize("size", [2.0**-9, 0.3, 1.0, 2.0**60])
def test_a_slice_has_the_length_of_its_head(target: Target, size: float) -> None:
    """Its root mean square is 1, 32 units, whatever that of x was, from 2^-10 on."""
    x = float32([[[1, -1], [1, 1]]] * 3) * size
    found = parts(target, x)
    assert found["k"].tolist() == [32, -32, 32, 32]
    assert found["v"].tolist() == [32, -32, 32, 32]


@pytest.mark.clause("ARB-HEAD-002")
def test_halves_turn_by_a_quarter(target: Target) -> None:
    """(y_0, y_1) becomes (-y_1, y_0) of queries and keys; values stay."""
    x = float32([[[2, 1], [-1, 1]]] * 3)
    straight, turned = parts(target, x), parts(target, x, QUARTER, STRAIGHT)
    assert turned["v"].tolist() == straight["v"].tolist()
    for name in ("q", "k"):
        a, b, c, d = straight[name].tolist()
        assert [abs(n - m) <= 1 for n, m in zip(turned[name].tolist(), [-c, -d, a, b], strict=True)]
        assert turned[name].tolist() != straight[name].tolist()


@pytest.mark.clause("ARB-HEAD-002")
def test_each_position_has_its_own_angles(target: Target) -> None:
    """And every sequence of a batch begins with the first."""
    x = float32([1.0, 0.0]).expand(2, 3, 3, 2, 1, 2).transpose(-1, -2)
    cos, sin = int16([[STRAIGHT], [0], [-STRAIGHT]]), int16([[0], [STRAIGHT], [0]])
    k = target.check("heads", {"x": x, "cos": cos, "sin": sin})["k"]
    expected = [[45, 0], [0, 45], [-45, 0]]
    assert k.squeeze(-1).tolist() == [[[row, row] for row in expected]] * 2


@pytest.mark.clause("ARB-HEAD-003")
def test_the_clamp(target: Target) -> None:
    """One number of 32 is 5.7 times the root mean square, 181 units."""
    x = torch.zeros(3, 2, 16)
    x[:, 0, 3], x[:, 1, 5] = 1.0, 2.0**-30
    for sign, expected in ((1, 127), (-1, -127)):
        found = parts(target, x * sign)
        assert found["v"][3] == expected
        assert found["v"].count_nonzero() == 1


@pytest.mark.clause("ARB-HEAD-004")
@pytest.mark.parametrize("half", [1, 2, 3, 5, 8, 16, 32, 48, 64, 100, MOST_DIM // 2])
def test_a_query_has_the_scale_of_its_head(target: Target, half: int) -> None:
    """Times a key it is a score in 2^-u octaves: log2 of Euler's number over the root of D."""
    x = torch.ones(3, 2, half)
    kappa, u = scale_of(2 * half)
    assert 0.5**0.5 <= kappa < 2**0.5
    assert abs(kappa / 2 ** (u - 10) * (2 * half) ** 0.5 - 1.4426950408889634) < 1e-12
    assert parts(target, x)["q"].tolist() == [int(32 * kappa + 0.5)] * (2 * half)


@pytest.mark.clause("ARB-HEAD-003", "ARB-ROW-001")
@pytest.mark.parametrize("pattern", POISON_SPIKES, ids=hex)
def test_poison_takes_its_own_slice_only(target: Target, pattern: int) -> None:
    for half in (1, 4, 33):
        x = torch.ones(2, 2, 3, 2, 2, half)
        x[1, 0, 1, 1, 1, half // 2] = from_bits([pattern])[0]
        cos, sin = (torch.full((2, half), value, dtype=torch.int16) for value in (STRAIGHT, 0))
        found = target.check("heads", {"x": x, "cos": cos, "sin": sin})
        clean = target.check("heads", {"x": torch.ones_like(x), "cos": cos, "sin": sin})
        assert found["k"][1, 0, 1].eq(-128).all()
        found["k"][1, 0, 1] = clean["k"][1, 0, 1]
        assert all(torch.equal(found[name], clean[name]) for name in ("q", "k", "v"))
