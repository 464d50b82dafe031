"""What the reference refuses by itself, without the checks of the host that stand before every backend."""

from typing import Any

import numpy as np
import pytest
import torch

from arbitor import reference
from arbitor.conformance.refusals import Refusal, refusals_of
from arbitor.kernels.operations import OPERATIONS
from arbitor.reference import limits
from arbitor.reference.initialise import initial_base, initial_exponent


def as_numpy(value: Any) -> Any:
    """A tensor as an array, whatever its dtype."""
    return value.numpy() if isinstance(value, torch.Tensor) else value


@pytest.mark.clause("ARB-STATE-005", "ARB-STATE-006", "ARB-LIN-006")
@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        pytest.param(name, refusal, id=f"{name} {refusal.label}")
        for name in OPERATIONS
        for refusal in refusals_of(name)
    ],
)
def test_refuses(name: str, refusal: Refusal) -> None:
    given = {key: as_numpy(value) for key, value in refusal.arguments.items()}
    before = {key: value.copy() for key, value in given.items() if isinstance(value, np.ndarray)}
    with pytest.raises(refusal.error) as caught:
        getattr(reference, name)(**given)
    words = [str(part).replace("torch.", "") for part in refusal.names]
    assert all(word in str(caught.value) for word in words)
    assert all((given[key] == array).all() for key, array in before.items())


@pytest.mark.clause("ARB-INIT-002", "ARB-INIT-003")
@pytest.mark.parametrize("in_features", [0, 2**31])
def test_bounds_of_the_initial_exponent(in_features: int) -> None:
    with pytest.raises(ValueError, match=rf"in_features is {in_features}, expected 1\.\.2147483647"):
        initial_exponent(in_features)
    with pytest.raises(ValueError, match=r"e_span is 7, expected 0\.\.6"):
        initial_base(4, 7)


@pytest.mark.clause("ARB-RNG-005")
def test_purposes_of_random_bits() -> None:
    """The numbers of the page, in its order."""
    assert (
        limits.INITIAL_CODES,
        limits.INPUT_GRADIENT,
        limits.WEIGHT_GRADIENT,
        limits.VOTES,
        limits.SCALE_VOTES,
    ) == (0, 1, 2, 3, 4)


@pytest.mark.clause("ARB-STATE-006")
def test_a_shape_says_what_was_expected() -> None:
    with pytest.raises(ValueError, match=r"q is of shape \[2, 0\], expected \[2, 1 or more\]"):
        limits.check_array("q", np.zeros((2, 0), np.int8), np.int8, 2, None)
