"""`quantise_stochastic`: rows of float32 to int8, rounded with bits of the generator."""

import numpy as np
import pytest
import torch

from arbitor.conformance.draw.arrays import FLOATS, POISON_SPIKES
from arbitor.conformance.draw.strategies import example
from arbitor.conformance.judge.target import Arguments, Target
from arbitor.conformance.operations.common import (
    agreement,
    float32,
    from_bits,
    layouts,
    refusals,
    repetition,
)

test_agrees, test_ends = agreement(
    "quantise_stochastic", *(*(f"ARB-QUANT-00{i}" for i in (9, 1, 2, 3, 5, 6, 7)), "ARB-RNG-004")
)
test_refuses = refusals("quantise_stochastic")
test_layouts = layouts("quantise_stochastic")
test_repeats = repetition("quantise_stochastic")

BITS: Arguments = {"seed": 2**64 - 3, "step": 5, "stream": 33, "first_row": 0}


@pytest.mark.clause("ARB-QUANT-005", "ARB-QUANT-009", "ARB-RNG-004")
@pytest.mark.parametrize("f", [-65537, -32768, -1, 0, 1, 32767, 65535, 126 * 65536 + 65535])
def test_rounding_is_f_plus_r16(target: Target, f: int) -> None:
    """Every row has 127 in front, so that its exponent is 0 and x = f / 65536."""
    rows, columns, first_row = 40, 7, 11
    x = torch.full((rows, columns), f / 65536)
    x[:, 0] = 127
    found = target.check("quantise_stochastic", {"x": x, **BITS, "first_row": first_row})
    assert found["exponents"].tolist() == [0] * rows
    bits = {name: BITS[name] for name in ("seed", "step", "stream")}
    first = {"first": first_row * columns, "count": rows * columns}
    words = target.aid("philox", first | bits)["words"].view(rows, columns)
    assert found["q"][:, 1:].tolist() == ((f + (words >> 16)) >> 16)[:, 1:].tolist()
    assert set(found["q"][:, 0].tolist()) == {127}


@pytest.mark.clause("ARB-QUANT-005", "ARB-QUANT-006", "ARB-RNG-004")
@pytest.mark.parametrize(("n", "bits"), [(28_426, 0), (219_039, 65_535)])
def test_the_ends_of_r16(target: Target, n: int, bits: int) -> None:
    """Where the generator gives the least and the largest r16; one element in 65,536 has either."""
    for f in (0, 1, -1, 65535, -65535, -65536, 127 << 16, -127 << 16):
        x = torch.full((1, 2), 127.0)
        x[0, n % 2] = f / 65536
        found = target.check("quantise_stochastic", {"x": x, **BITS, "first_row": n // 2})
        assert found["q"][0, n % 2] == (f + bits) >> 16


@pytest.mark.clause("ARB-QUANT-005", "ARB-QUANT-006")
def test_whole_numbers_stay(target: Target) -> None:
    x = torch.arange(-127, 128.0).repeat(9, 1)
    assert target.check("quantise_stochastic", {"x": x, **BITS})["q"].tolist() == x.int().tolist()


@pytest.mark.clause("ARB-QUANT-009", "ARB-RNG-006")
@pytest.mark.parametrize("seed", range(6))
def test_rows_keep_their_bits_in_a_later_call(target: Target, seed: int) -> None:
    arguments = example("quantise_stochastic", seed) | {"first_row": 2**20 - 100}
    whole = target.check("quantise_stochastic", arguments)
    for start in range(1, min(len(arguments["x"]), 4)):
        part = arguments | {"x": arguments["x"][start:], "first_row": 2**20 - 100 + start}
        found = target.check("quantise_stochastic", part)
        assert found["q"].tolist() == whole["q"][start:].tolist()
        assert found["exponents"].tolist() == whole["exponents"][start:].tolist()


@pytest.mark.clause("ARB-QUANT-007")
@pytest.mark.parametrize("pattern", POISON_SPIKES, ids=hex)
def test_poison_takes_its_own_row_only(target: Target, pattern: int) -> None:
    x = float32([[2.0] * 5] * 3)
    x[1, 3] = from_bits([pattern])[0]
    found = target.check("quantise_stochastic", {"x": x, **BITS})
    assert found["exponents"].tolist() == [-5, 127, -5]
    assert found["q"].tolist() == [[64] * 5, [0] * 5, [64] * 5]


@pytest.mark.clause("ARB-QUANT-007")
@pytest.mark.parametrize("seed", range(4))
def test_poison_among_random_patterns(target: Target, seed: int) -> None:
    patterns = FLOATS["NaNs"](np.random.default_rng(seed), (130, 40))
    e = target.check("quantise_stochastic", {"x": from_bits(patterns.tolist()), **BITS})["exponents"]
    finite = ((patterns & 0x7FFFFFFF) < 0x7F800000).all(axis=1)
    assert (e != 127).tolist() == finite.tolist()


@pytest.mark.clause("ARB-QUANT-001", "ARB-QUANT-009", "ARB-RNG-003")
@pytest.mark.parametrize("columns", [8_195, 65_540])
def test_a_long_row_is_rounded_by_its_columns(target: Target, columns: int) -> None:
    """Rows that kernels take in parts: the part is no part of the index."""
    if target.judge.arrays == "lists":
        columns //= 8
    x = torch.full((1, columns), 0.5)
    x[0, 0] = 127.0
    found = target.check("quantise_stochastic", {"x": x, **BITS})
    bits = {name: BITS[name] for name in ("seed", "step", "stream")}
    words = target.aid("philox", {"first": 1, "count": columns - 1} | bits)["words"]
    assert found["q"][0, 1:].tolist() == (words >> 31).tolist()
