"""`linear_update`: the weight gradient and the update in one."""

import pytest
import torch

from arbitor.conformance.draw.strategies import example
from arbitor.conformance.judge.target import Target
from arbitor.conformance.operations.common import (
    HOW,
    agreement,
    int8,
    int32,
    layouts,
    packed,
    refusals,
    repetition,
)
from arbitor.conformance.operations.rails import rails

test_agrees, test_ends = agreement("linear_update", "ARB-UPD-002", "ARB-UPD-004", "ARB-LIN-005")
test_refuses = refusals("linear_update")
test_layouts = layouts("linear_update")
test_repeats = repetition("linear_update")
test_same_sign_rails = rails("linear_update", "ARB-LIN-005")


@pytest.mark.clause("ARB-UPD-002")
@pytest.mark.parametrize("seed", range(12))
def test_is_the_two_operations_one_after_the_other(target: Target, seed: int) -> None:
    arguments = example("linear_update", seed)
    whole = target.check("linear_update", arguments)
    operands = {name: arguments.pop(name) for name in ("q_g", "q_x")}
    gradient = target.aid("weight_gradient", operands)["gradient"]
    parts = target.aid("ternary_update", {"gradient": gradient} | arguments)
    for name, array in parts.items():
        assert whole[name].tolist() == array.tolist()


@pytest.mark.clause("ARB-LIN-005", "ARB-UPD-002", "ARB-VOTE-002")
@pytest.mark.parametrize("tokens", [1, 2000])
def test_one_unit_of_gradient_decides(target: Target, tokens: int) -> None:
    """Sums of large products that leave -1, 0 and 1: a sum that is rounded on the way votes wrongly."""
    q_g = torch.full((2 * tokens + 1, 1), 127, dtype=torch.int8)
    q_g[tokens:-1] = -127
    q_g[-1] = 1
    q_x = torch.full((2 * tokens + 1, 3), 127, dtype=torch.int8)
    q_x[-1] = int8([-1, 0, 1])
    state = {
        "codes": packed(int8([[0, 0, 0]])),
        "t_accum": int8([[0, 0, 0]]),
        "e": int8([[0]]),
        "e_accum": int8([[0]]),
        "moment": int32([[0]]),
        "e_g": int8([0]),
    }
    found = target.check("linear_update", {"q_g": q_g, "q_x": q_x} | state | HOW)
    assert found["t_accum"].tolist() == [[4, 0, -4]]
    assert found["counts"].tolist() == [2, 0, 0, 0, 0]


@pytest.mark.clause("ARB-UPD-002")
def test_more_rows_than_a_band_of_tiles(target: Target) -> None:
    """Every weight votes once, by the sign of its row and column, wherever its tile lies."""
    rows, columns = (40 if target.judge.arrays == "lists" else 513), 64
    q_g = torch.where(torch.arange(rows) % 7 < 3, -1, 1).to(torch.int8).unsqueeze(0)
    q_x = torch.where(torch.arange(columns) % 5 < 2, -1, 1).to(torch.int8).unsqueeze(0)
    state = {
        "codes": packed(torch.zeros(rows, columns, dtype=torch.int8)),
        "t_accum": torch.zeros(rows, columns, dtype=torch.int8),
        "e": torch.zeros(rows, columns // 64, dtype=torch.int8),
        "e_accum": torch.zeros(rows, columns // 64, dtype=torch.int8),
        "moment": torch.zeros(rows, columns // 64, dtype=torch.int32),
        "e_g": torch.zeros(rows, dtype=torch.int8),
    }
    found = target.check("linear_update", {"q_g": q_g, "q_x": q_x} | state | HOW | {"group_size": 64})
    assert torch.equal(found["t_accum"], -4 * q_g.t() * q_x)
    assert found["counts"].tolist() == [rows * columns, 0, 0, 0, 0]


@pytest.mark.clause("ARB-UPD-002", "ARB-VOTE-001")
def test_sums_of_neighbours_over_31_bits(target: Target) -> None:
    """A group of 32 of the same 66,600 products: two of them are more than 2^31."""
    if (target.backend.name, target.device) == ("triton", "cpu"):
        pytest.skip("Triton's interpreter adds in 64 bits whatever the kernel says, and takes long for it")
    tokens, columns = (60 if target.judge.arrays == "lists" else 66_600), 64
    full = torch.full((tokens, columns), 127, dtype=torch.int8)
    state = {
        "codes": packed(int8([[0] * columns])),
        "t_accum": int8([[0] * columns]),
        "e": int8([[0, 0]]),
        "e_accum": int8([[0, 0]]),
        "moment": int32([[0, 0]]),
        "e_g": int8([0]),
    }
    how = HOW | {"rule": "scaled", "gain": 1 << 17, "group_size": 32}
    found = target.check("linear_update", {"q_g": full[:, :1], "q_x": full} | state | how)["t_accum"]
    # 8 quarters of the mean, at most one bit more or less
    assert set(found.flatten().tolist()) <= set(range(-9, -3))
    how |= {"rule": "adaptive", "gain": 1 << 16, "accum_threshold": 32}
    found = target.check("linear_update", {"q_g": full[:, :1], "q_x": full} | state | how)["t_accum"]
    assert set(found.flatten().tolist()) <= {-3, -4, -5}  # each is the root of the square of all
