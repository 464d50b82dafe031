"""`embedding_update`: the rows of a table that occurred are updated, and no other row."""

from typing import Any

import pytest
import torch

from arbitor.conformance.draw.strategies import example
from arbitor.conformance.judge.target import Arguments, Target
from arbitor.conformance.operations.common import (
    HOW,
    agreement,
    int8,
    int16,
    int32,
    int64,
    layouts,
    packed,
    refusals,
    repetition,
)
from arbitor.conformance.operations.rails import rails
from arbitor.conformance.operations.refused.device_refusals import refuses_on_device
from arbitor.conformance.operations.refused.first_illegal import first_of_two_tokens

test_agrees, test_ends = agreement(
    "embedding_update", "ARB-EMB-004", "ARB-EMB-005", "ARB-EMB-003", "ARB-STATE-004"
)
test_refuses = refusals("embedding_update")
test_layouts = layouts("embedding_update")
test_repeats = repetition("embedding_update")
test_the_first_of_two_tokens_outside_is_named = first_of_two_tokens("embedding_update")
test_same_sign_rails = rails("embedding_update", "ARB-EMB-003")

LAST = 2**31 - 1


def table(tokens: list[int], q: list[list[int]], **changes: Any) -> Arguments:
    """Four rows of four trits 0, every accumulator over its threshold."""
    rows = 4
    state: Arguments = {
        "tokens": int64(tokens),
        "q": int8(q),
        "codes": packed(int8([[0] * 4] * rows)),
        "t_accum": int8([[127, -127, 40, -40]] * rows),
        "e_g": int8([0]),
        "moment": int32([[1_070_000_000]] * rows),
        "e": int8([[0]] * rows),
        "corr_accum": int16([[32767]] * rows),
        "step_counter": int32([0] * rows),
    }
    return state | HOW | changes


@pytest.mark.clause("ARB-EMB-005", "ARB-FIRE-003")
@pytest.mark.parametrize("rule", ["sign", "adaptive"])
def test_rows_that_do_not_occur_keep_every_byte(target: Target, rule: str) -> None:
    """Their accumulators are over every threshold; those of row 2 fire without a vote."""
    before = table([2, 2], [[0] * 4] * 2, rule=rule)
    found = target.check("embedding_update", before)
    for name in ("codes", "t_accum", "e", "corr_accum", "moment", "step_counter"):
        for row in (0, 1, 3):
            assert found[name][row].tolist() == before[name][row].tolist()
    assert found["codes"][2].tolist() == packed(int8([[1, -1, 1, -1]]))[0].tolist()
    assert found["t_accum"][2].tolist() == [0] * 4
    assert (found["e"][2].tolist(), found["corr_accum"][2].tolist()) == ([1], [0])
    assert found["counts"].tolist() == [0, 4, 4, 0, 1]


@pytest.mark.clause("ARB-EMB-004", "ARB-STATE-004")
def test_the_step_counter_counts_updates_and_saturates(target: Target) -> None:
    before = table([0, 0, 0, 1, 2], [[1] * 4] * 5, step_counter=int32([0, LAST, LAST - 1, LAST - 1]))
    found = target.check("embedding_update", before)
    assert found["step_counter"].tolist() == [1, LAST, LAST, LAST - 1]


@pytest.mark.clause("ARB-EMB-004", "ARB-MOM-003")
def test_a_row_has_a_memory_of_its_own_length(target: Target) -> None:
    """Rows of the same moment and a gradient of 0: what is left of it goes by the counter of the row."""
    held = (512 << 21) + 2**20  # 2^20
    before = table([0, 1, 2, 3], [[0] * 4] * 4, rule="adaptive", step=5, moment=int32([[held]] * 4))
    before["step_counter"] = int32([0, 1, 126, LAST])
    found = target.check("embedding_update", before)
    left = [0, (511 << 21) + 2**20, (511 << 21) + 2**21 - 16_514, (511 << 21) + 2**21 - 2**14]
    assert found["moment"].flatten().tolist() == left
    assert found["counts"].tolist()[0] == 0


@pytest.mark.clause("ARB-EMB-004", "ARB-STATE-004")
def test_a_row_of_many_groups_counts_one_step(target: Target) -> None:
    """On a GPU so many that they do not all run at once: what each group adds would be seen."""
    groups = 5 if target.device == "cpu" else 40_000
    before = table(
        [1],
        [[1] * 4 * groups],
        codes=packed(int8([[0] * 4 * groups] * 4)),
        t_accum=int8([[0] * 4 * groups] * 4),
        e=int8([[0] * groups] * 4),
        corr_accum=int16([[0] * groups] * 4),
        moment=int32([[0] * groups] * 4),
    )
    assert target.check("embedding_update", before)["step_counter"].tolist() == [0, 1, 0, 0]


@pytest.mark.clause("ARB-EMB-004")
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_correlation_accumulator_does_not_wrap(target: Target, sign: int) -> None:
    """32767 and a vote of one more: clamped, not -32768."""
    codes = packed(int8([[1] * 4] * 4))
    corr_accum = int16([[sign * 32767]] * 4)
    before = table([1], [[-sign] * 4], codes=codes, corr_accum=corr_accum, scale_gain=2**20)
    found = target.check("embedding_update", before)
    assert found["e"].tolist() == [[0], [sign], [0], [0]]
    assert found["corr_accum"].tolist() == [[sign * 32767], [0], [sign * 32767], [sign * 32767]]
    assert found["counts"].tolist()[3:] == [1, 1]


@pytest.mark.clause("ARB-EMB-004", "ARB-RNG-003")
@pytest.mark.parametrize("seed", range(12))
def test_rows_that_occur_are_updated_as_in_the_whole_table(target: Target, seed: int) -> None:
    """n counts over [V, D] and [V, G], whichever rows occur: as in `ternary_update` of the whole table."""
    arguments = example("embedding_update", seed)
    arguments["corr_accum"] = arguments["corr_accum"].clamp(-127, 127)
    rows = len(arguments["codes"])
    # by rule adaptive the step of a matrix is what the counter of a row is to a table
    arguments["step_counter"] = torch.full((rows,), min(arguments["step"], LAST), dtype=torch.int32)
    operands = {"tokens": arguments["tokens"], "q": arguments["q"], "rows": rows}
    found = target.check("embedding_update", arguments)
    gradient = target.aid("embedding_gradient", operands)["gradient"]
    state = {name: arguments[name] for name in ("codes", "t_accum", "e", "moment")}
    state |= {"e_accum": arguments["corr_accum"].to(torch.int8), "e_g": arguments["e_g"].repeat(rows)}
    how = {name: arguments[name] for name in HOW}
    whole = target.aid("ternary_update", {"gradient": gradient} | state | how)
    for row in set(arguments["tokens"].tolist()):
        for name in ("codes", "t_accum", "e", "moment"):
            assert found[name][row].tolist() == whole[name][row].tolist()
        assert found["corr_accum"][row].tolist() == whole["e_accum"][row].tolist()


@pytest.mark.clause("ARB-EMB-001")
@pytest.mark.parametrize("token", [-1, 4, 2**31, 2**32])
def test_refuses_a_token_outside_the_table(target: Target, token: int) -> None:
    before = table([0, token], [[1] * 4] * 2)
    if target.device == "cpu":
        target.refuses("embedding_update", before, ValueError, 1, token)
    else:
        refuses_on_device(target, "embedding_update", before, 1, token)
