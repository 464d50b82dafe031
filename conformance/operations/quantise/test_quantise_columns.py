"""`quantise_columns`: the output's gradient, rescaled by rows and quantised by columns."""

import numpy as np
import pytest
import torch

from arbitor.conformance.draw.arrays import FLOATS, POISON_SPIKES
from arbitor.conformance.draw.strategies import example
from arbitor.conformance.judge.target import Arguments, Arrays, Target
from arbitor.conformance.operations.common import (
    agreement,
    float32,
    from_bits,
    int8,
    layouts,
    refusals,
    repetition,
)

test_agrees, test_ends = agreement(
    "quantise_columns", *("ARB-QUANT-010", *(f"ARB-QUANT-00{i}" for i in (1, 2, 3, 5, 6, 7)))
)
test_refuses = refusals("quantise_columns")
test_layouts = layouts("quantise_columns")
test_repeats = repetition("quantise_columns")

BITS: Arguments = {"seed": 2**33 + 1, "step": 2**32 - 1, "stream": 2, "first_row": 0}


def quantised(target: Target, dy: torch.Tensor, e_x: list[int]) -> Arrays:
    return target.check("quantise_columns", {"dy": dy, "e_x": int8(e_x), **BITS})


@pytest.mark.clause("ARB-QUANT-010")
@pytest.mark.parametrize("seed", range(6))
def test_one_column_is_one_row(target: Target, seed: int) -> None:
    """With O = 1 and e_x = 0 the logical indices of both quantisers are the same."""
    x = example("quantise_stochastic", seed)["x"].reshape(1, -1)
    row = target.aid("quantise_stochastic", {"x": x, **BITS})
    column = quantised(target, x.t(), [0] * x.shape[1])
    assert column["q"].flatten().tolist() == row["q"].flatten().tolist()
    assert column["exponents"].tolist() == row["exponents"].tolist()


@pytest.mark.clause("ARB-QUANT-010")
def test_rows_are_rescaled_before_the_maximum(target: Target) -> None:
    """Every product is 1, whatever the row's exponent: q = 64 and e = -6 throughout."""
    e_x = [-100, -1, 0, 7, 100, 122]
    dy = float32([[2.0**-e] * 3 for e in e_x])
    found = quantised(target, dy, e_x)
    assert found["q"].tolist() == [[64] * 3] * 6
    assert found["exponents"].tolist() == [-6] * 3


@pytest.mark.clause("ARB-QUANT-010", "ARB-RNG-006")
def test_first_row_numbers_the_tokens(target: Target) -> None:
    """Slices of a call whose columns all have the same largest element in every slice."""
    dy = torch.linspace(-1, 1, 12 * 5).reshape(12, 5)
    dy[::3] = 2.0
    arguments = {"dy": dy, "e_x": torch.zeros(12, dtype=torch.int8), **BITS, "first_row": 2**20 - 12}
    whole = target.check("quantise_columns", arguments)["q"]
    for start in (3, 6, 9):
        part = {"dy": dy[start:], "e_x": arguments["e_x"][start:], "first_row": 2**20 - 12 + start}
        assert target.check("quantise_columns", arguments | part)["q"].tolist() == whole[start:].tolist()


@pytest.mark.clause("ARB-QUANT-007", "ARB-QUANT-010")
@pytest.mark.parametrize("pattern", POISON_SPIKES, ids=hex)
def test_poison_takes_its_own_column_only(target: Target, pattern: int) -> None:
    dy = torch.full((5, 4), -2.0)
    dy[3, 1] = from_bits([pattern])[0]
    found = quantised(target, dy, [0] * 5)
    assert found["exponents"].tolist() == [-5, 127, -5, -5]
    assert found["q"].tolist() == [[-64, 0, -64, -64]] * 5


@pytest.mark.clause("ARB-QUANT-010")
def test_overflow_takes_its_own_column_only(target: Target) -> None:
    largest = from_bits([0x7F7FFFFF])[0]
    dy = torch.zeros(2, 4)
    dy[0] = torch.stack([largest, largest / 2, -largest, torch.tensor(0.0)])
    found = quantised(target, dy, [1, 122])
    assert found["exponents"].tolist() == [127, 122, 127, -100]
    dy[0] /= 2
    assert 127 not in quantised(target, dy, [1, 122])["exponents"].tolist()


@pytest.mark.clause("ARB-QUANT-007", "ARB-QUANT-010")
@pytest.mark.parametrize("row", [0, 2, 4])
def test_a_poisoned_row_takes_every_column(target: Target, row: int) -> None:
    """Also where its elements are 0, or so small that the product would not overflow."""
    dy = torch.ones(5, 3)
    dy[row] = float32([0.0, 2.0**-140, 1.0])
    e_x = [0] * 5
    e_x[row] = 127
    found = quantised(target, dy, e_x)
    assert found["exponents"].tolist() == [127] * 3
    assert found["q"].tolist() == [[0] * 3] * 5


@pytest.mark.clause("ARB-QUANT-010")
def test_underflow_cannot_be_seen(target: Target) -> None:
    patterns = FLOATS["subnormal"](np.random.default_rng(0), (6, 40))
    patterns[:3] = FLOATS["finite"](np.random.default_rng(1), (3, 40)) & 0x83FFFFFF
    quantised(target, from_bits(patterns.tolist()), [-100, 0, 1, 22, 48, 49])


@pytest.mark.clause("ARB-QUANT-010")
def test_the_smallest_normals_beside_the_largest_exponent(target: Target) -> None:
    """2^-126 * 2^122 is 2^-4: what is next to the subnormals is not next to nothing."""
    patterns = [0x00800000, 0x00C00000, 0x80FFFFFF, 0x007FFFFF, 0x01000000]
    found = quantised(target, from_bits([patterns]), [122])
    assert (found["q"][0, :2].tolist(), found["exponents"][:2].tolist()) == ([64, 96], [-10, -10])


@pytest.mark.clause("ARB-QUANT-007", "ARB-QUANT-010")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(40, 130), (33, 257), (9, 64)])
def test_poison_among_random_patterns(target: Target, shape: tuple[int, int], seed: int) -> None:
    """Found once: the maximum of a column was a NaN with its sign bit set, and the column looked finite."""
    rng = np.random.default_rng(seed)
    patterns = FLOATS["NaNs"](rng, shape)
    # 2^-100 .. 2^27, so that no product with these exponents overflows
    small = patterns & 0x807FFFFF | rng.integers(27, 154, shape) << 23
    nan = (patterns & 0x7FFFFFFF) > 0x7F800000
    column_is_finite = ~nan.any(axis=0)
    e = quantised(target, from_bits(np.where(nan, patterns, small).tolist()), [3] * shape[0])["exponents"]
    assert (e != 127).tolist() == column_is_finite.tolist()


@pytest.mark.clause("ARB-QUANT-010", "ARB-RNG-003")
@pytest.mark.parametrize("shape", [(515, 2), (2, 515), (2, 516)])
def test_indices_beyond_a_tile(target: Target, shape: tuple[int, int]) -> None:
    """Random bits follow the token's and the column's number, not their places in a tile."""
    dy = torch.linspace(-1, 1, shape[0] * shape[1]).reshape(shape)
    dy[0] = 1.0
    found = quantised(target, dy, [0] * shape[0])
    assert found["exponents"].tolist() == [-6] * shape[1]


@pytest.mark.clause("ARB-QUANT-001", "ARB-QUANT-010")
def test_zeros_have_the_smallest_exponent_at_every_scale(target: Target) -> None:
    dy = torch.zeros(3, 2)
    dy[1] = -0.0
    arguments = {"dy": dy, "e_x": int8([122, -100, 122]), "seed": 1, "step": 2, "stream": 3, "first_row": 0}
    found = target.check("quantise_columns", arguments)
    assert (found["exponents"].tolist(), found["q"].tolist()) == ([-100, -100], [[0, 0]] * 3)
