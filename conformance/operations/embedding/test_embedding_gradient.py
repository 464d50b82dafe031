"""`embedding_gradient`: rows of a gradient summed by token."""

import pytest
import torch

from arbitor.conformance.judge.target import Target
from arbitor.conformance.operations.common import agreement, int8, int64, layouts, refusals, repetition
from arbitor.conformance.operations.rails import rails
from arbitor.conformance.operations.refused.device_refusals import refuses_on_device
from arbitor.conformance.operations.refused.first_illegal import first_of_two_tokens

test_agrees, test_ends = agreement("embedding_gradient", "ARB-EMB-003")
test_refuses = refusals("embedding_gradient")
test_layouts = layouts("embedding_gradient")
test_repeats = repetition("embedding_gradient")
test_the_first_of_two_tokens_outside_is_named = first_of_two_tokens("embedding_gradient")
test_same_sign_rails = rails("embedding_gradient", "ARB-EMB-003")


@pytest.mark.clause("ARB-EMB-003")
def test_repeated_tokens_add_up(target: Target) -> None:
    q = int8([[1, -1], [10, -10], [100, -100], [127, 127], [-127, 127]])
    arguments = {"tokens": int64([3, 0, 3, 3, 1]), "q": q, "rows": 5}
    found = target.check("embedding_gradient", arguments)["gradient"]
    assert found.tolist() == [[10, -10], [-127, 127], [0, 0], [228, 26], [0, 0]]


@pytest.mark.clause("ARB-EMB-003", "ARB-STATE-005")
@pytest.mark.parametrize("tokens", [131_071, 2**20])
def test_largest_sums(target: Target, tokens: int) -> None:
    """Up to the most that tokens of a step add up to: 133,169,152, less than 2^27."""
    q = torch.full((tokens, 2), 127, dtype=torch.int8)
    q[:, 1] = -127
    arguments = {"tokens": torch.full((tokens,), 2), "q": q, "rows": 3}
    found = target.check("embedding_gradient", arguments)["gradient"]
    assert found.tolist() == [[0, 0], [0, 0], [127 * tokens, -127 * tokens]]


@pytest.mark.clause("ARB-EMB-001", "ARB-EMB-003")
@pytest.mark.parametrize("token", [-1, 3, 2**31, 2**32, -(2**63)])
def test_refuses_a_token_outside_the_table(target: Target, token: int) -> None:
    arguments = {"tokens": int64([0, 2, token]), "q": int8([[1]] * 3), "rows": 3}
    if target.device == "cpu":
        target.refuses("embedding_gradient", arguments, ValueError, 2, token)
    else:
        refuses_on_device(target, "embedding_gradient", arguments, 2, token)
