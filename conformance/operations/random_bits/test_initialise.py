"""`initialise`: the codes before the first step."""

import pytest

from arbitor.conformance.judge.target import Target
from arbitor.conformance.operations.common import agreement, refusals, repetition

test_agrees, test_ends = agreement("initialise", "ARB-INIT-001", "ARB-RNG-005")
test_refuses = refusals("initialise")
test_repeats = repetition("initialise")


@pytest.mark.clause("ARB-INIT-001", "ARB-RNG-002")
@pytest.mark.parametrize("columns", [1, 5, 6, 7, 8])
def test_codes_are_thirds_of_the_words(target: Target, columns: int) -> None:
    tensor_id, seed, rows = 2**28 - 1, 2**64 - 2, 7
    arguments = {"out_features": rows, "in_features": columns, "seed": seed, "tensor_id": tensor_id}
    codes = target.check("initialise", arguments)["codes"]
    trits = target.aid("unpack", {"codes": codes, "columns": columns})["trits"]
    bits = {"first": 0, "count": rows * columns, "seed": seed, "step": 0, "stream": 16 * tensor_id}
    words = target.aid("philox", bits)["words"].tolist()
    assert trits.flatten().tolist() == [(word * 3 >> 32) - 1 for word in words]


@pytest.mark.clause("ARB-INIT-001")
def test_a_third_of_each(target: Target) -> None:
    arguments = {"out_features": 60, "in_features": 100, "seed": 1, "tensor_id": 2}
    codes = target.check("initialise", arguments)["codes"]
    trits = target.aid("unpack", {"codes": codes, "columns": 100})["trits"].flatten().tolist()
    assert all(1850 < trits.count(trit) < 2150 for trit in (-1, 0, 1))


@pytest.mark.clause("ARB-INIT-001")
@pytest.mark.parametrize(("seed", "n", "trit"), [(172, 171, 0), (99, 348, 1)])
def test_all_bits_of_a_word_count(target: Target, seed: int, n: int, trit: int) -> None:
    """Words 0x5555DDE4 and 0xAAAAD797, whose upper halves alone would give the trit below."""
    arguments = {"out_features": 1, "in_features": 352, "seed": seed, "tensor_id": 0}
    codes = target.check("initialise", arguments)["codes"]
    assert target.aid("unpack", {"codes": codes, "columns": 352})["trits"][0, n] == trit
