"""What elements must hold and backends may rely on: the reference and the oracle look all the same (ARB-
LIN-006).

Kernels do not read elements before they launch, so these calls are made on the two judges only, whatever is
under test.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from arbitor import reference
from arbitor.conformance.draw.refusals import Refusal, refusals_of
from arbitor.conformance.judge.target import ORACLE, REFERENCE, Arguments, Target, target_of
from arbitor.conformance.operations.common import HOW, int8, int16, int32, int64, uint8
from arbitor.kernels.operations import OPERATIONS

ROWS, COLUMNS, TOKENS = 3, 6, 2
SCALE: Arguments = {"e_base": -3, "e_span": 2, "group_size": 4}
STATE: Arguments = {
    "codes": uint8([[0x55, 0x55]] * ROWS),
    "t_accum": int8([[0] * COLUMNS] * ROWS),
    "e": int8([[-2, -2]] * ROWS),
    "e_accum": int8([[0, 0]] * ROWS),
}
WIDE, TALL = int8([[1] * COLUMNS] * TOKENS), int8([[1] * ROWS] * TOKENS)
ZEROS = int8([0] * TOKENS)
WEIGHT: Arguments = {"codes": STATE["codes"], "e": STATE["e"]} | SCALE
BITS: Arguments = {"seed": 0, "step": 0, "stream": 0, "first_row": 0}
TABLE: Arguments = {name: STATE[name] for name in ("codes", "t_accum", "e")} | {
    "corr_accum": int16([[0, 0]] * ROWS),
    "step_counter": int32([0] * ROWS),
}
LEGAL: dict[str, Arguments] = {
    "linear_forward": {"q_x": WIDE, "e_x": ZEROS} | WEIGHT,
    "input_gradient": {"q_d": TALL, "e_d": ZEROS} | WEIGHT | {"in_features": COLUMNS},
    "quantise_columns": {"dy": WIDE.float(), "e_x": ZEROS} | BITS,
    "weight_gradient": {"q_g": TALL, "q_x": WIDE},
    "ternary_update": {"gradient": int32([[1] * COLUMNS] * ROWS)} | STATE | HOW | SCALE,
    "linear_update": {"q_g": TALL, "q_x": WIDE} | STATE | HOW | SCALE,
    "embedding_gradient": {"tokens": int64([0] * TOKENS), "q": WIDE, "rows": ROWS},
    "embedding_update": {"tokens": int64([0] * TOKENS), "q": WIDE} | TABLE | HOW | SCALE,
}
ILLEGAL: dict[str, list[int]] = {
    "q_x": [-128],
    "q_d": [-128],
    "q_g": [-128],
    "q": [-128],
    "e_x": [-128, -101, 123, 126],
    "e_d": [-128, -101, 123, 126],
    "codes": [0x57, 0x5D, 0x75, 0xD5],
    "t_accum": [-128],
    "e": [-4, 0, 127],
    "e_accum": [-128],
    "corr_accum": [-32768],
    "step_counter": [-1, -(2**31)],
}
CASES = [
    pytest.param(operation, name, value, id=f"{operation}-{name}-{value}")
    for operation, arguments in LEGAL.items()
    for name in arguments
    for value in ILLEGAL.get(name, [])
]


@pytest.fixture(params=[REFERENCE, ORACLE], scope="module")
def judge(request: Any) -> Target:
    return target_of(request.param)


@pytest.mark.clause("ARB-LIN-006", "ARB-STATE-003", "ARB-STATE-004", "ARB-STATE-006", "ARB-PACK-003")
@pytest.mark.parametrize(("operation", "name", "value"), CASES)
def test_illegal_elements_are_refused(judge: Target, operation: str, name: str, value: int) -> None:
    array: torch.Tensor = LEGAL[operation][name].clone()
    array[(-1,) * array.dim() if name != "codes" else (-1, 0)] = value
    judge.refuses(operation, LEGAL[operation] | {name: array}, ValueError, value)


@pytest.mark.clause("ARB-LIN-006")
@pytest.mark.parametrize("operation", LEGAL)
def test_the_calls_are_legal_otherwise(judge: Target, operation: str) -> None:
    judge.check(operation, LEGAL[operation])


def refused_by_the_reference(operation: str, refusal: Refusal) -> bool:
    given = {
        name: value.numpy() if isinstance(value, torch.Tensor) else value
        for name, value in refusal.arguments.items()
    }
    try:
        getattr(reference, operation)(**given)
    except refusal.error:
        return True
    return False


@pytest.mark.clause("ARB-LIN-006", "ARB-STATE-005", "ARB-STATE-006")
@pytest.mark.clause("ARB-VOTE-004", "ARB-FIRE-003", "ARB-SCALE-003")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_reference_checks_for_itself(operation: str) -> None:
    """Every other call goes through the host's own checks first, and so would hide that it has none."""
    refusals = refusals_of(operation)
    taken = [refusal.label for refusal in refusals if not refused_by_the_reference(operation, refusal)]
    assert taken == []
