"""`weight_gradient`: an exact integer sum over the tokens of a step."""

import pytest
import torch

from arbitor.conformance.judge.target import Target
from arbitor.conformance.operations.common import agreement, int8, layouts, refusals, repetition
from arbitor.conformance.operations.rails import rails

test_agrees, test_ends = agreement("weight_gradient", "ARB-LIN-005")
test_refuses = refusals("weight_gradient")
test_layouts = layouts("weight_gradient")
test_repeats = repetition("weight_gradient")
test_same_sign_rails = rails("weight_gradient", "ARB-LIN-005")


def gradient(target: Target, q_g: torch.Tensor, q_x: torch.Tensor) -> list[list[int]]:
    found: list[list[int]] = target.check("weight_gradient", {"q_g": q_g, "q_x": q_x})["gradient"].tolist()
    return found


@pytest.mark.clause("ARB-LIN-005")
def test_one_hot_tokens_give_the_other_operand(target: Target) -> None:
    q = torch.arange(-127, 128).to(torch.int8).reshape(15, 17)
    one = torch.eye(15, dtype=torch.int8)
    assert gradient(target, one, q) == q.tolist()
    assert gradient(target, q, one) == q.t().tolist()


@pytest.mark.clause("ARB-LIN-005")
def test_one_token_gives_every_product(target: Target) -> None:
    values = list(range(-127, 128))
    assert gradient(target, int8([values]), int8([values])) == [[a * b for b in values] for a in values]


@pytest.mark.clause("ARB-LIN-005", "ARB-STATE-005")
@pytest.mark.parametrize("tokens", [1039, 1040, 1041, 1042, 33_000, 131_071])
def test_largest_sums(target: Target, tokens: int) -> None:
    """127 * 127 at every token: past 2^24, where float32 loses integers, and up to the most of a step."""
    full = torch.full((tokens, 1), 127, dtype=torch.int8)
    assert gradient(target, full, full) == [[127 * 127 * tokens]]
    assert gradient(target, -full, full) == [[-127 * 127 * tokens]]


@pytest.mark.clause("ARB-LIN-005")
def test_large_sums_that_cancel(target: Target) -> None:
    """Odd sums between large ones, which a float32 on the way would round."""
    tokens = 6000
    q_g = torch.full((tokens, 2), 127, dtype=torch.int8)
    q_g[tokens // 2 :, 1] = -127
    q_x = torch.full((tokens, 3), 127, dtype=torch.int8)
    q_x[0] = int8([126, 125, -127])
    half = 127 * 127 * (tokens // 2 - 1)
    first = [127 * 126, 127 * 125, -127 * 127]
    whole = [2 * half + 127 * 127 + value for value in first]
    cancelled = [value - 127 * 127 for value in first]
    assert gradient(target, q_g, q_x) == [whole, cancelled]


@pytest.mark.clause("ARB-LIN-005")
def test_more_rows_than_a_band_of_tiles(target: Target) -> None:
    """G of 1,030 out-features by 66, which kernels cut into bands of tiles."""
    q_g = (torch.arange(2 * 1030) % 251 - 125).to(torch.int8).reshape(2, 1030)
    q_x = (torch.arange(2 * 66) % 127 - 63).to(torch.int8).reshape(2, 66)
    assert gradient(target, q_g, q_x) == (q_g.t().long() @ q_x.long()).tolist()
