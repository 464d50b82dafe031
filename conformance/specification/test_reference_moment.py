"""The reference's rule `adaptive` against the worked example, fractions and Python integers (ARB-MOM)."""

import numpy as np
import pytest

from arbitor.conformance.specification.integers import check_update, how, matrix
from arbitor.reference.update import moment, rules


@pytest.mark.clause("ARB-MOM-001", "ARB-MOM-002", "ARB-MOM-003", "ARB-VOTE-005")
def test_worked_example_by_rule_adaptive() -> None:
    """What the page prints below the table."""
    gradient, zero = np.array([[-300, 20, 0, 80, 6]]), np.array([0])
    a, x = moment.mean_square(gradient, zero, 4)
    assert (a[0, 0], x[0, 0]) == (1548800, -6)
    moments = moment.advance(np.array([[0, 0]]), (a, x), np.array([[0]]))
    assert moments.tolist() == [[1062707712, 1043464192]]
    factor, shift = moment.root_factor(moments, zero, 131072)
    assert (factor[0, 0], shift[0, 0]) == (1766981632, 19)
    votes = rules.rounded_votes(gradient, np.full((1, 5), 32768), 4, 16, factor, shift)
    assert votes.tolist() == [[15, -1, 0, -4, -8]]


@pytest.mark.clause("ARB-VOTE-005")
def test_the_root_is_the_largest_integer_below_it() -> None:
    """Of mantissas at both ends, of squares and their neighbours, where float64 may be one off."""
    near = [n * n + d for n in range(2, 2049, 7) for d in (-1, 0, 1)]
    m = np.array([1, 2, 3, 2**20 - 1, 2**20, 2**21 - 1, 2**22 - 2, 2**22 - 1, *near])
    for number, u in zip(m.tolist(), moment.inverse_root(m).tolist(), strict=True):
        assert u * u * number <= 2**52 < (u + 1) * (u + 1) * number


@pytest.mark.clause("ARB-VOTE-005")
@pytest.mark.parametrize("e_g", [-100, 0, 125])
def test_of_no_moment_there_is_no_vote(e_g: int) -> None:
    """A left over moment shifts the first square out: 0 is not a very small divisor."""
    moments = moment.advance(np.array([[(612 << 21) + 2**20]]), moment.mean_square(
        np.array([[5, -3]]), np.array([-100]), 4), np.array([[0]]))  # fmt: skip
    assert moments.tolist() == [[0]]
    factor, shift = moment.root_factor(moments, np.array([e_g]), 2**22)
    votes = rules.rounded_votes(np.array([[2**31 - 1, -3]]), np.full((1, 2), 65535), 4, 32, factor, shift)
    assert votes.tolist() == [[0, 0]]


def near(gradient: np.ndarray, e_g: list[int]) -> np.ndarray:
    """Moments int32 [O, 3] of about the square of the gradient, one of them 0 and one left over."""
    size = np.abs(gradient.astype(np.float64)).mean(axis=1)
    x = np.floor(2 * np.log2(size)).astype(np.int64) - 20 + 2 * np.array(e_g)
    moments = ((x[:, np.newaxis] + 512) << 21 | 2**20) + np.array([0, 54_321, 1_048_575])
    moments[3, 1], moments[4, 2] = 0, 2**31 - 1
    found: np.ndarray = moments.astype(np.int32)
    return found


@pytest.mark.clause("ARB-MOM-001", "ARB-MOM-002", "ARB-MOM-003", "ARB-VOTE-005", "ARB-UPD-004")
@pytest.mark.parametrize("done", [0, 1, 126, 127, 128, 2**32 - 1])
@pytest.mark.parametrize("e_g", [-100, 0, 125])
@pytest.mark.parametrize("top", [3, 10**6, 2**31 - 1])
def test_adaptive_update(top: int, e_g: int, done: int) -> None:
    """With moments of about the gradient's square, whose own scales go up to both ends."""
    rng = np.random.default_rng(top)
    gradient = rng.integers(-top - 1, top, (6, 21), dtype=np.int32, endpoint=True)
    gradient[1, :8], gradient[2, 16:] = 0, 0
    e = [min(max(e_g + d, -100), 125) for d in (0, 1, -1, 2, -2, 3)]
    state, h = matrix(6, 21), how(rule="adaptive", step=done, gain=2**16)
    state["moment"] = near(gradient, e)
    counts = check_update(gradient, e, state, [done] * 6, h)
    assert counts[0] > 30 if done else counts[0] > 10
