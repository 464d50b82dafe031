"""`input_gradient`: quantised rows of the output's gradient times packed trits, the other way round."""

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
    repeated,
    repetition,
    to_bits,
)
from arbitor.conformance.operations.rails import rails

test_agrees, test_ends = agreement(
    "input_gradient", "ARB-LIN-002", "ARB-LIN-003", "ARB-LIN-004", "ARB-STATE-002"
)
test_refuses = refusals("input_gradient")
test_layouts = layouts("input_gradient")
test_repeats = repetition("input_gradient")
test_same_sign_rails = rails("input_gradient", "ARB-LIN-002")


@pytest.mark.clause("ARB-STATE-002", "ARB-LIN-002")
@pytest.mark.parametrize("seed", range(8))
def test_one_hot_rows_give_the_weights(target: Target, seed: int) -> None:
    arguments = example("input_gradient", seed)
    rows, columns = arguments["q_d"].shape[1], arguments["in_features"]
    one_hot = {"q_d": torch.eye(rows, dtype=torch.int8), "e_d": torch.zeros(rows, dtype=torch.int8)}
    dx = target.check("input_gradient", arguments | one_hot)["dx"]
    trits = target.aid("unpack", {"codes": arguments["codes"], "columns": columns})["trits"]
    exponents = arguments["e"].repeat_interleave(arguments["group_size"], dim=1)[:, :columns]
    assert dx.tolist() == torch.ldexp(trits.float(), exponents.int()).tolist()


def column(e: list[int], **changes: object) -> Arguments:
    """A matrix of O rows and one column, all trits 1, with these exponents."""
    return {
        "q_d": torch.zeros(1, len(e), dtype=torch.int8),
        "e_d": int8([0]),
        "codes": packed(int8([[1]] * len(e))),
        "e": int8(e).unsqueeze(1),
        "e_base": 0,
        "e_span": 6,
        "group_size": 4,
        "in_features": 1,
    } | changes


@pytest.mark.clause("ARB-LIN-003")
@pytest.mark.parametrize("sign", [-1, 1])
def test_sums_over_24_bits_round_to_even(target: Target, sign: int) -> None:
    """Z = sign * (2^24 + 0, 1, 2, 3): 2065 out-features of weight 64 and one of weight 1."""
    arguments = column([6] * 2065 + [0])
    arguments["q_d"][0, :2064] = sign * 127
    arguments["q_d"][0, 2064] = sign * (2**18 - 127 * 2064)
    for extra, expected in ((0, 0), (1, 0), (2, 2), (3, 4)):
        arguments["q_d"][0, -1] = sign * extra
        dx = target.check("input_gradient", arguments)["dx"]
        assert dx.tolist() == [[sign * float(2**24 + expected)]]


@pytest.mark.clause("ARB-LIN-002")
def test_long_sums_are_exact(target: Target) -> None:
    """Beyond 2^24, of odd and even products: sums in float32 would be rounded on their way."""
    e = [6, 6, 6, 6, 6, 6, 6, 0] * 384
    q_d = (torch.arange(4 * len(e)) * 37 % 32 + 96).view(4, -1).to(torch.int8)
    four = {"codes": packed(int8([[1] * 4] * len(e))), "in_features": 4}
    dx = target.check("input_gradient", column(e, q_d=q_d, e_d=int8([0] * 4), **four))["dx"]
    sums = (q_d.long() << torch.tensor(e)).sum(1).float()
    assert dx.tolist() == [[z] * 4 for z in sums.tolist()]


@pytest.mark.clause("ARB-LIN-002", "ARB-LIN-003", "ARB-LIN-004")
def test_zero_poison_and_the_ends_of_the_scale(target: Target) -> None:
    q_d, e_d = int8([[1, -1], [1, 0], [0, -1], [2, 0], [0, 0]]), int8([5, 127, -100, 122, 127])
    low = column([-26, -26], q_d=q_d, e_d=e_d, e_base=-26)
    dx = to_bits(target.check("input_gradient", low)["dx"].flatten())
    assert dx == [0, 0x7FC00000, 0x80800000, to_bits(torch.tensor(2.0**97)), 0x7FC00000]
    high = column([26, 26], q_d=q_d, e_d=e_d, e_base=26)
    dx = to_bits(target.check("input_gradient", high)["dx"].flatten())
    assert dx == [0, 0x7FC00000, to_bits(torch.tensor(-(2.0**-74))), 0x7F800000, 0x7FC00000]


@pytest.mark.clause("ARB-LIN-002", "ARB-UPD-003")
def test_a_row_that_is_repeated_with_a_stride_of_0(target: Target) -> None:
    """33 different products: a row read from anywhere else in memory has another sum."""
    e = [i % 7 for i in range(33)]
    q_d = torch.arange(1, 34).to(torch.int8).repeat(5, 1)
    arguments = column(e, q_d=q_d, e_d=int8([0] * 5))
    found = target.check(
        "input_gradient",
        arguments,
        lambda name, tensor: repeated(tensor) if name == "q_d" else tensor.clone(),
    )
    assert found["dx"].tolist() == [[float(sum((i + 1) << k for i, k in enumerate(e)))]] * 5


@pytest.mark.clause("ARB-LIN-002", "ARB-STATE-002")
@pytest.mark.parametrize("group_size", [8, 24, 40])
def test_groups_that_end_inside_a_word_of_codes(target: Target, group_size: int) -> None:
    """Token t meets row t alone; kernels read words of 16 codes, in which two groups may lie."""
    columns, rows = 120, 40
    groups = columns // group_size
    e = (torch.arange(rows * groups).reshape(rows, groups) * 5 % 7 - 3).to(torch.int8)
    arguments: Arguments = {"q_d": torch.eye(rows, dtype=torch.int8), "e_d": int8([0] * rows)}
    arguments |= {"codes": packed(torch.ones(rows, columns, dtype=torch.int8)), "e": e}
    arguments |= {"e_base": -3, "e_span": 6, "group_size": group_size, "in_features": columns}
    dx = target.check("input_gradient", arguments)["dx"]
    assert dx.tolist() == [[2.0 ** int(row[i // group_size]) for i in range(columns)] for row in e]
