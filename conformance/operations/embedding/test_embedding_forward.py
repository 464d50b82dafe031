"""`embedding_forward`: rows of a ternary table as float32."""

import pytest
import torch

from arbitor.conformance.draw.strategies import example
from arbitor.conformance.judge.target import Arguments, Target
from arbitor.conformance.operations.common import (
    agreement,
    int8,
    int64,
    layouts,
    packed,
    refusals,
    repetition,
    to_bits,
)
from arbitor.conformance.operations.refused.device_refusals import refuses_on_device
from arbitor.conformance.operations.refused.first_illegal import first_of_two_tokens

test_agrees, test_ends = agreement("embedding_forward", "ARB-EMB-001", "ARB-STATE-002")
test_refuses = refusals("embedding_forward")
test_layouts = layouts("embedding_forward")
test_repeats = repetition("embedding_forward")
test_the_first_of_two_tokens_outside_is_named = first_of_two_tokens("embedding_forward")


@pytest.mark.clause("ARB-EMB-001", "ARB-STATE-002")
@pytest.mark.parametrize("seed", range(8))
def test_every_row_in_turn_gives_the_weights(target: Target, seed: int) -> None:
    arguments = example("embedding_forward", seed)
    rows, columns = len(arguments["codes"]), arguments["columns"]
    y = target.check("embedding_forward", arguments | {"tokens": torch.arange(rows)})["y"]
    trits = target.aid("unpack", {"codes": arguments["codes"], "columns": columns})["trits"]
    exponents = arguments["e"].repeat_interleave(arguments["group_size"], dim=1)[:, :columns]
    assert to_bits(y) == to_bits(torch.ldexp(trits.float(), exponents.int()))


@pytest.mark.clause("ARB-EMB-001")
def test_rows_by_token(target: Target) -> None:
    """Repeated tokens, the last row, the ends of the exponents, and zeros without a sign."""
    trits = int8([[1, 1, 0, -1, 1], [0, 0, 0, 0, 0], [-1, 0, 1, 0, -1]])
    arguments: Arguments = {
        "tokens": int64([2, 0, 0, 1, 2]),
        "codes": packed(trits),
        "e": int8([[-26, 32], [-26, -26], [0, 1]]),
        "group_size": 4,
        "columns": 5,
    }
    rows = [
        [2.0**-26, 2.0**-26, 0.0, -(2.0**-26), 2.0**32],
        [0.0] * 5,
        [-1.0, 0.0, 1.0, 0.0, -2.0],
    ]
    y = target.check("embedding_forward", arguments)["y"]
    assert to_bits(y) == to_bits(torch.tensor([rows[t] for t in (2, 0, 0, 1, 2)]))


@pytest.mark.clause("ARB-EMB-001")
@pytest.mark.parametrize("token", [-1, -(2**63), 3, 2**31, 2**32, 2**63 - 1])
@pytest.mark.parametrize("position", [0, 4])
def test_refuses_a_token_outside_the_table(target: Target, token: int, position: int) -> None:
    tokens = int64([0] * 5)
    tokens[position] = token
    codes = packed(int8([[0]] * 3))
    arguments: Arguments = {"tokens": tokens, "codes": codes, "e": int8([[0]] * 3), "group_size": 4}
    arguments["columns"] = 1
    if target.device == "cpu":
        target.refuses("embedding_forward", arguments, ValueError, position, token)
    else:
        refuses_on_device(target, "embedding_forward", arguments, position, token)
