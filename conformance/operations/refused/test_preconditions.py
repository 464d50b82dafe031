"""What elements must hold and backends may rely on: the reference and the oracle look all the same (ARB-
LIN-006).

Kernels do not read elements before they launch, so these calls are made on the two judges only, whatever is
under test.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from arbitor import reference
from arbitor.conformance.draw.ranges import ELEMENTS, ends_of
from arbitor.conformance.draw.refusals import Refusal, refusals_of
from arbitor.conformance.judge.target import ORACLE, REFERENCE, Arguments, Target, target_of
from arbitor.conformance.operations.common import HOW, int8, int16, int32, int64, uint8
from arbitor.kernels.operations import OPERATIONS, Array

ROWS, COLUMNS, TOKENS = 3, 6, 2
SCALE: Arguments = {"e_base": -3, "e_span": 2, "group_size": 4}
STATE: Arguments = {
    "codes": uint8([[0x55, 0x55]] * ROWS),
    "t_accum": int8([[0] * COLUMNS] * ROWS),
    "e": int8([[-2, -2]] * ROWS),
    "e_accum": int8([[0, 0]] * ROWS),
    "moment": int32([[0, 0]] * ROWS),
}
E_G: Arguments = {"e_g": int8([0] * ROWS)}
WIDE, TALL = int8([[1] * COLUMNS] * TOKENS), int8([[1] * ROWS] * TOKENS)
ZEROS = int8([0] * TOKENS)
WEIGHT: Arguments = {"codes": STATE["codes"], "e": STATE["e"]} | SCALE
BITS: Arguments = {"seed": 0, "step": 0, "stream": 0, "first_row": 0}
TABLE: Arguments = {name: STATE[name] for name in ("codes", "t_accum", "e", "moment")} | {
    "corr_accum": int16([[0, 0]] * ROWS),
    "step_counter": int32([0] * ROWS),
}
ATTENDED: Arguments = dict.fromkeys("qkv", int8([[[[1, 1]]]])) | {"window": 0}  # of two: -128 is of one
LEGAL: dict[str, Arguments] = {
    "pack": {"trits": int8([[1] * COLUMNS] * ROWS)},
    "unpack": {"codes": STATE["codes"], "columns": COLUMNS},
    "pack_dense": {"trits": int8([[1] * COLUMNS] * ROWS)},
    "unpack_dense": {"dense": uint8([[121, 121]] * ROWS), "columns": COLUMNS},
    "linear_forward": {"q_x": WIDE, "e_x": ZEROS} | WEIGHT,
    "input_gradient": {"q_d": TALL, "e_d": ZEROS} | WEIGHT | {"in_features": COLUMNS},
    "quantise_columns": {"dy": WIDE.float(), "e_x": ZEROS} | BITS,
    "weight_gradient": {"q_g": TALL, "q_x": WIDE},
    "ternary_update": {"gradient": int32([[1] * COLUMNS] * ROWS)} | E_G | STATE | HOW | SCALE,
    "linear_update": {"q_g": TALL, "q_x": WIDE} | E_G | STATE | HOW | SCALE,
    "embedding_forward": {"tokens": int64([0] * TOKENS), "codes": STATE["codes"], "e": STATE["e"]}
    | {"group_size": 4, "columns": COLUMNS},
    "embedding_gradient": {"tokens": int64([0] * TOKENS), "q": WIDE, "rows": ROWS},
    "embedding_update": {"tokens": int64([0] * TOKENS), "q": WIDE, "e_g": int8([0])} | TABLE | HOW | SCALE,
    "attention": ATTENDED,
    "attention_backward": {
        "dy": torch.ones(1, 1, 1, 2),
        "y": torch.ones(1, 1, 1, 2),
        "top": int32([[[2]]]),
        "total": int32([[[16383]]]),
    }
    | ATTENDED,
}
# beside one less than the lowest and one more than the highest that ranges.py allows
ALSO: dict[str, list[int]] = {
    "e_x": [-128, 123, 126],
    "e_d": [-128, 123, 126],
    "codes": [0x57, 0x5D, 0x75, 0xD5],
    "e": [127],
    "e_g": [-128, 127],
    "moment": [-(2**31)],
    "step_counter": [-(2**31)],
}


def illegal_values(operation: str, array: Array) -> list[int]:
    """What the dtype has and a clause does not allow; of float32 nothing."""
    if array.dtype == "float32":
        return []
    limits, (low, high) = np.iinfo(array.dtype), ends_of(array, LEGAL[operation])
    beside = [value for value in (low - 1, high + 1) if limits.min <= value <= limits.max]
    return [*beside, *ALSO.get(array.name, [])]


CASES = [
    pytest.param(operation, array.name, value, id=f"{operation}-{array.name}-{value}")
    for operation in LEGAL
    for array in OPERATIONS[operation].arrays
    for value in illegal_values(operation, array)
]


@pytest.fixture(params=[REFERENCE, ORACLE], scope="module")
def judge(request: Any) -> Target:
    return target_of(request.param)


@pytest.mark.clause("ARB-LIN-006", "ARB-STATE-003", "ARB-STATE-004", "ARB-STATE-006", "ARB-PACK-003")
@pytest.mark.clause("ARB-MOM-001", "ARB-UPD-004")
@pytest.mark.parametrize(("operation", "name", "value"), CASES)
def test_illegal_elements_are_refused(judge: Target, operation: str, name: str, value: int) -> None:
    array: torch.Tensor = LEGAL[operation][name].clone()
    array[(-1,) * array.dim() if name not in ("codes", "dense") else (-1, 0)] = value
    judge.refuses(operation, LEGAL[operation] | {name: array}, ValueError, value)


@pytest.mark.clause("ARB-LIN-006", "ARB-STATE-006")
def test_nothing_that_is_narrower_than_its_dtype_is_left_out() -> None:
    """Else a table of ends that is too narrow would be noticed by nobody: draws would keep to it."""
    narrowed = {
        operation for operation, table in OPERATIONS.items() if {a.name for a in table.arrays} & set(ELEMENTS)
    }
    assert narrowed <= set(LEGAL)


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
