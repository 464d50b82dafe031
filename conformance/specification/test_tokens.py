"""How many tokens an update and a call may have: a table, walked at its ends; what more tokens add up to."""

from __future__ import annotations

import math

import numpy as np
import pytest

from arbitor import reference
from arbitor.conformance import oracle
from arbitor.conformance.draw.refusals import expanded
from arbitor.conformance.draw.strategies import example
from arbitor.conformance.oracle.checks import MAX_SUMMED_TOKENS, MAX_TOKENS, tokens_in_call
from arbitor.conformance.oracle.linear import step_gradient as oracle_gradient
from arbitor.kernels.checks import check_call
from arbitor.kernels.operations import OPERATIONS
from arbitor.reference import limits
from arbitor.reference.step import step_gradient

SUMMED, ALL = 131_071, 2**20
MOST = {
    "quantise_columns": ALL, "linear_forward": ALL, "input_gradient": ALL, "weight_gradient": SUMMED,
    "linear_update": SUMMED, "embedding_forward": ALL, "embedding_gradient": ALL, "embedding_update": ALL,
    "cross_entropy": ALL,
}  # fmt: skip
NUMBERED = ("quantise_stochastic", "quantise_columns")
AT_ENDS = (1, SUMMED, SUMMED + 1, ALL, ALL + 1)


def test_every_operation_of_tokens_is_in_the_table() -> None:
    of_tokens = {name for name, o in OPERATIONS.items() if any("T" in array.axes for array in o.arrays)}
    assert of_tokens == set(MOST)
    assert {name for name, o in OPERATIONS.items() if "first_row" in o.scalars} == set(NUMBERED)


@pytest.mark.clause("ARB-STATE-005", "ARB-LIN-006")
@pytest.mark.parametrize("name", MOST)
@pytest.mark.parametrize("tokens", AT_ENDS)
def test_tokens_of_a_call(name: str, tokens: int) -> None:
    legal = example(name, 0)
    arguments = legal | expanded(OPERATIONS[name], legal, "T", tokens)
    if tokens <= MOST[name]:
        check_call(OPERATIONS[name], arguments)
        return
    said = f"{name}: T must be at most {MOST[name]} tokens a call, got {tokens}"
    with pytest.raises(ValueError, match=f"^{said}$"):
        check_call(OPERATIONS[name], arguments)


@pytest.mark.clause("ARB-STATE-005")
@pytest.mark.parametrize("name", NUMBERED)
@pytest.mark.parametrize("first_row", [SUMMED, SUMMED + 1, ALL, ALL + 1])
def test_the_number_of_a_first_token(name: str, first_row: int) -> None:
    arguments = example(name, 0) | {"first_row": first_row}
    if first_row <= ALL:
        check_call(OPERATIONS[name], arguments)
        return
    with pytest.raises(ValueError, match=r"first_row must be in 0\.\.1048576, got 1048577"):
        check_call(OPERATIONS[name], arguments)


@pytest.mark.clause("ARB-STATE-005")
@pytest.mark.parametrize("tokens", AT_ENDS)
def test_the_judges_have_the_same_bounds(tokens: int) -> None:
    for most, row, of_oracle in ((SUMMED, "summed_tokens", MAX_SUMMED_TOKENS), (ALL, "tokens", MAX_TOKENS)):
        if tokens <= most:
            limits.check_tokens("q_g", tokens, row)
            tokens_in_call(tokens, of_oracle)
            continue
        with pytest.raises(ValueError, match=f"q_g has {tokens} tokens, expected 1..{most}"):
            limits.check_tokens("q_g", tokens, row)
        with pytest.raises(ValueError, match=f"number of tokens is {tokens}, expected 1..{most}"):
            tokens_in_call(tokens, of_oracle)


@pytest.mark.clause("ARB-STATE-005", "ARB-LIN-006")
def test_what_the_judges_sum_over_tokens() -> None:
    """Called directly, without the checks of a backend: one token more than an int32 sum of products has."""
    q, tokens = np.ones((SUMMED + 1, 1), np.int8), np.zeros(SUMMED + 1, np.int64)
    for judge, operands in ((reference, (tokens, q)), (oracle, (tokens.tolist(), q.tolist()))):
        assert np.array(judge.embedding_gradient(*operands, 1)).tolist() == [[SUMMED + 1]]
        with pytest.raises(ValueError, match=r"131072.*1\.\.131071"):
            judge.weight_gradient(operands[1], operands[1])


@pytest.mark.clause("ARB-LIN-007")
@pytest.mark.parametrize("tokens", [1, SUMMED, SUMMED + 1, 200_000])
def test_reference_and_oracle_sum_alike(tokens: int) -> None:
    """Sums of one sign, past int32, and others."""
    rng = np.random.default_rng(tokens)
    q_g, q_x = (rng.integers(-127, 128, (tokens, 3)).astype(np.int8) for _ in range(2))
    q_g[:, 0] = q_x[:, 0] = 127
    q_x[:, 1] = -127
    assert step_gradient(q_g, q_x).tolist() == oracle_gradient(q_g.tolist(), q_x.tolist())


@pytest.mark.clause("ARB-LIN-007")
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_gradient_of_an_update(sign: int) -> None:
    """An int32; one token more is refused."""
    q = np.full((ALL, 1), 127, np.int8)
    assert step_gradient(q, sign * q).tolist() == [[sign * 127 * 127 * 2**17]]
    with pytest.raises(ValueError, match="q_g has 1048577 tokens"):
        step_gradient(np.concatenate([q, q[:1]]), np.concatenate([q, q[:1]]))
    with pytest.raises(ValueError, match="number of tokens is 1048577"):
        oracle_gradient([[127]] * (ALL + 1), [[127]] * (ALL + 1))


@pytest.mark.clause("ARB-LIN-007")
def test_a_half_goes_up() -> None:
    """Sums from -20 to 20 beside others that cancel, of one token more than an int32 sum takes."""
    q_g = np.ones((SUMMED + 1, 1), np.int8)
    q_x = np.zeros((SUMMED + 1, 41), np.int8)
    q_x[-1] = np.arange(-20, 21)
    expected = [[math.floor(value / 8 + 0.5) for value in range(-20, 21)]]
    assert step_gradient(q_g, q_x).tolist() == expected
    assert oracle_gradient(q_g.tolist(), q_x.tolist()) == expected
