"""`linear_forward`: quantised rows times packed trits."""

from typing import Any

import pytest
import torch

from arbitor.conformance.draw.strategies import example
from arbitor.conformance.judge.target import Arguments, Target
from arbitor.conformance.operations.common import (
    agreement,
    int8,
    layouts,
    packed,
    refusals,
    repetition,
    to_bits,
)
from arbitor.conformance.operations.rails import rails

test_agrees, test_ends = agreement(
    "linear_forward", "ARB-LIN-001", "ARB-LIN-003", "ARB-LIN-004", "ARB-STATE-002"
)
test_refuses = refusals("linear_forward")
test_layouts = layouts("linear_forward")
test_repeats = repetition("linear_forward")
test_same_sign_rails = rails("linear_forward", "ARB-LIN-001")


def forward(target: Target, q_x: Any, e_x: Any, trits: Any, **scale: Any) -> torch.Tensor:
    """y of trits [O, I] whose exponents are all e_base + shift."""
    shift = scale.pop("shift", 0)
    scale = {"e_base": 0, "e_span": 6, "group_size": 1024} | scale
    trits = int8(trits)
    groups = -(-trits.shape[1] // scale["group_size"])
    arguments: Arguments = {
        "q_x": int8(q_x),
        "e_x": int8(e_x),
        "codes": packed(trits),
        "e": torch.full((len(trits), groups), scale["e_base"] + shift, dtype=torch.int8),
    }
    return target.check("linear_forward", arguments | scale)["y"]


@pytest.mark.clause("ARB-STATE-002", "ARB-LIN-001")
@pytest.mark.parametrize("seed", range(8))
def test_one_hot_rows_give_the_weights(target: Target, seed: int) -> None:
    arguments = example("linear_forward", seed)
    columns, e = arguments["q_x"].shape[1], arguments["e"]
    q_x = torch.eye(columns, dtype=torch.int8)
    e_x = torch.zeros(columns, dtype=torch.int8)
    y = target.check("linear_forward", arguments | {"q_x": q_x, "e_x": e_x})["y"]
    trits = target.aid("unpack", {"codes": arguments["codes"], "columns": columns})["trits"]
    exponents = e.repeat_interleave(arguments["group_size"], dim=1)[:, :columns]
    weights = torch.ldexp(trits.float(), exponents.int())
    assert y.t().tolist() == weights.tolist()


@pytest.mark.clause("ARB-LIN-001")
@pytest.mark.parametrize("columns", [1, 4, 31, 64, 65, 1025])
def test_all_equal(target: Target, columns: int) -> None:
    for q, trit in ((127, 1), (-127, 1), (127, -1), (-127, -1)):
        y = forward(target, [[q] * columns] * 2, [0, 1], [[trit] * columns] * 3, group_size=64)
        assert y.tolist() == [[float(q * trit * columns)] * 3, [2.0 * q * trit * columns] * 3]


@pytest.mark.clause("ARB-LIN-003")
@pytest.mark.parametrize("sign", [-1, 1])
def test_sums_over_24_bits_round_to_even(target: Target, sign: int) -> None:
    """Z = sign * (2^24 + 0, 1, 2, 3): 259 groups of weights 64 and one of weights 1."""
    e = torch.full((1, 260), 6, dtype=torch.int8)
    e[0, -1] = 0
    arguments: Arguments = {"e_x": int8([0]), "codes": packed(int8([[1] * 2080])), "e": e}
    arguments |= {"e_base": 0, "e_span": 6, "group_size": 8}
    for extra, expected in ((0, 0), (1, 0), (2, 2), (3, 4)):
        row = [127] * 2064 + [2**18 - 127 * 2064] + [0] * 7 + [extra] + [0] * 7
        y = target.check("linear_forward", arguments | {"q_x": sign * int8([row])})["y"]
        assert y.tolist() == [[sign * float(2**24 + expected)]]


@pytest.mark.clause("ARB-LIN-001")
def test_long_sums_are_exact(target: Target) -> None:
    """Beyond 2^27, of odd and even products: sums in float32 would be rounded on their way."""
    e = torch.tensor([[6, 6, 6, 6, 6, 6, 6, 0] * 1024])
    q_x = (torch.arange(4 * 32768) * 37 % 32 + 96).view(4, -1).to(torch.int8)
    arguments: Arguments = {"q_x": q_x, "e_x": int8([0] * 4), "codes": packed(int8([[1] * 32768]))}
    arguments |= {"e": e.to(torch.int8), "e_base": 0, "e_span": 6, "group_size": 4}
    y = target.check("linear_forward", arguments)["y"]
    assert y.flatten().tolist() == (q_x.long() << e.repeat_interleave(4, 1)).sum(1).float().tolist()


@pytest.mark.clause("ARB-LIN-003")
def test_a_zero_sum_is_positive(target: Target) -> None:
    y = forward(target, [[-1, -1], [0, 0], [-5, 5]], [0, -100, 122], [[1, -1], [0, 0], [1, 1]], e_base=-26)
    assert to_bits(y)[0] == [0, 0, to_bits(torch.tensor(-2 * 2.0**-26))]
    assert to_bits(y)[1] == [0, 0, 0]
    assert to_bits(y)[2][1:] == [0, 0]


@pytest.mark.clause("ARB-LIN-004")
def test_a_poisoned_row_is_nan_throughout(target: Target) -> None:
    y = forward(target, [[1, 1], [0, 0], [1, 1]], [0, 127, -3], [[1, 1], [0, 0]], e_base=-26)
    assert to_bits(y)[1] == [0x7FC00000] * 2
    assert y[0].tolist() == [2.0**-25, 0.0]


@pytest.mark.clause("ARB-LIN-001", "ARB-LIN-003")
def test_ends_of_the_scale(target: Target) -> None:
    """2^-126 is exact; k stops at 127, so that what overflows is infinite and a zero stays zero."""
    y = forward(target, [[1, 0], [127, 0]], [-100, -100], [[1, 0], [-1, 1]], e_base=-26)
    assert y.tolist() == [[2.0**-126, -(2.0**-126)], [127 * 2.0**-126, -127 * 2.0**-126]]
    y = forward(target, [[1, 0], [2, 0], [0, 0]], [122, 122, 122], [[1, 0], [-1, 1], [0, 0]], e_base=26)
    assert y.tolist() == [[2.0**127, -(2.0**127), 0.0], [float("inf"), float("-inf"), 0.0], [0.0] * 3]


@pytest.mark.clause("ARB-STATE-003", "ARB-LIN-001")
@pytest.mark.parametrize("e_span", range(7))
def test_shifts_up_to_the_span(target: Target, e_span: int) -> None:
    y = forward(target, [[127] * 5], [0], [[1] * 5, [-1] * 5], e_base=-3, e_span=e_span, shift=e_span)
    assert y.tolist() == [[5 * 127 * 2.0 ** (e_span - 3), -5 * 127 * 2.0 ** (e_span - 3)]]


@pytest.mark.clause("ARB-LIN-001", "ARB-STATE-002")
@pytest.mark.parametrize("tokens", [1, 9])
def test_four_groups_of_128_and_their_exponents(target: Target, tokens: int) -> None:
    """A token meets one group each, so that its exponent alone decides; kernels read four at once."""
    rows = 3 if target.judge.arrays == "lists" else 70
    e = (torch.arange(rows * 8).reshape(rows, 8) * 5 % 7 - 3).to(torch.int8)
    q_x = torch.zeros(tokens, 8 * 128, dtype=torch.int8)
    for t in range(tokens):
        q_x[t, 128 * (t % 8)] = 1
    ones = packed(torch.ones(rows, 1024, dtype=torch.int8))
    arguments: Arguments = {"q_x": q_x, "e_x": int8([0] * tokens), "codes": ones}
    arguments |= {"e": e, "e_base": -3, "e_span": 6, "group_size": 128}
    y = target.check("linear_forward", arguments)["y"]
    assert y.tolist() == [[2.0**k for k in e[:, t % 8].tolist()] for t in range(tokens)]


@pytest.mark.clause("ARB-LIN-001")
def test_more_rows_than_one_program_adds(target: Target) -> None:
    """1,030 out-features of two columns: y tells the row."""
    rows, tokens = (40 if target.judge.arrays == "lists" else 1030), 2
    trits = [[(o % 3) - 1, (o // 3 % 3) - 1] for o in range(rows)]
    y = forward(target, [[1, 3]] * tokens, [0] * tokens, trits)
    assert y.tolist() == [[a + 3 * b for a, b in trits]] * tokens


@pytest.mark.clause("ARB-LIN-001", "ARB-STATE-002")
@pytest.mark.parametrize("group_size", [8, 24, 40])
def test_groups_that_end_inside_a_word_of_codes(target: Target, group_size: int) -> None:
    """Token t meets column t alone; kernels read words of 16 codes, in which two groups may lie."""
    columns, rows = 120, 3
    groups = columns // group_size
    e = (torch.arange(rows * groups).reshape(rows, groups) * 5 % 7 - 3).to(torch.int8)
    arguments: Arguments = {"q_x": torch.eye(columns, dtype=torch.int8), "e_x": int8([0] * columns)}
    arguments |= {"codes": packed(torch.ones(rows, columns, dtype=torch.int8)), "e": e}
    y = target.check("linear_forward", arguments | {"e_base": -3, "e_span": 6, "group_size": group_size})["y"]
    assert y.tolist() == [[2.0**k for k in e[:, t // group_size].tolist()] for t in range(columns)]
