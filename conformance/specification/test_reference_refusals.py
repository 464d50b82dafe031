"""What the reference refuses by itself, without the checks of the host that stand before every backend."""

import re
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
import torch

from arbitor import reference
from arbitor.conformance.draw.refusals import Refusal, refusals_of
from arbitor.conformance.draw.strategies import example
from arbitor.kernels.operations import OPERATIONS
from arbitor.reference import limits
from arbitor.reference.random_bits.initialise import initial_base, initial_exponent
from arbitor.reference.step import State, linear_step


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
    assert all(given[key].tobytes() == array.tobytes() for key, array in before.items())


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
@pytest.mark.parametrize("shape", [(2, 0), (3, 1), (2,), (2, 1, 1)])
def test_a_shape_says_what_was_expected(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"q is of shape .*, expected \[2, 1 or more\]") as caught:
        limits.check_array("q", np.zeros(shape, np.int8), np.int8, 2, None)
    assert str(list(shape)) in str(caught.value)


@pytest.mark.clause("ARB-STATE-005", "ARB-STATE-006")
def test_a_group_size_says_what_was_expected() -> None:
    for value, expected in ((3, "4..1024"), (1025, "4..1024"), (6, "a multiple of 4")):
        with pytest.raises(ValueError, match=rf"group_size is {value}, expected {re.escape(expected)}"):
            limits.check_bound("group_size", value)


@pytest.mark.clause("ARB-STATE-005")
def test_extents_at_their_bounds() -> None:
    """2^20 tokens, 131,071 where products are summed over them, and sums of 264,208 products at the widest
    band are legal; what is beside them not."""
    limits.check_extent("in-features", 264_208, 6)
    for bound, most in (("tokens", 2**20), ("summed_tokens", 131_071)):
        limits.check_tokens("q_x", most, bound)
        for count in (0, most + 1):
            with pytest.raises(ValueError, match=rf"q_x has {count} tokens, expected 1\.\.{most}"):
                limits.check_tokens("q_x", count, bound)
    for extent in (0, 264_209):
        with pytest.raises(ValueError, match=rf"in-features is {extent}, expected 1\.\.264208"):
            limits.check_extent("in-features", extent, 6)


@pytest.mark.clause("ARB-STATE-006")
@pytest.mark.parametrize("name", ["ternary_update", "embedding_update"])
def test_state_that_cannot_be_written(name: str) -> None:
    """Each array in turn; the others keep every byte."""
    arrays = [array.name for array in OPERATIONS[name].arrays if array.in_place]
    for locked in arrays:
        given = {key: as_numpy(value) for key, value in example(name, 1).items()}
        before = {key: given[key].copy() for key in arrays}
        given[locked].flags.writeable = False
        with pytest.raises(ValueError, match=f"{locked} is read-only"):
            getattr(reference, name)(**given)
        assert all((given[key] == array).all() for key, array in before.items())


def layer() -> tuple[State, limits.How]:
    """Two outputs of four inputs, trits 0."""
    state = State(
        np.full((2, 1), 0x55, np.uint8),
        np.zeros((2, 4), np.int8),
        np.zeros((2, 1), np.int8),
        np.zeros((2, 1), np.int8),
        np.zeros((2, 1), np.int32),
    )
    return state, limits.How(0, 0, 4, "sign", 0, 1, 32, 0, 32, 0, 0, 0)


@pytest.mark.clause("ARB-RUN-003")
def test_a_step_refuses_microbatches_that_do_not_fit() -> None:
    """Before anything is changed; as many as one likes of any length are a step."""
    x, dy = np.ones((300, 4), np.float32), np.ones((300, 2), np.float32)
    for xs, dys in (([], []), ([x], []), ([x, x], [dy]), ([x], [dy, dy])):
        with pytest.raises(ValueError, match=f"x and dy have {len(xs)} and {len(dys)} microbatches"):
            linear_step(xs, dys, *layer())
    for rows, others in ((299, 300), (300, 299)):
        state, how = layer()
        with pytest.raises(ValueError, match=rf"dy\[1\] has {others} rows, expected {rows}, those of x\[1\]"):
            linear_step([x, x[:rows]], [dy, dy[:others]], state, how)
        assert state.t_accum.tolist() == [[0] * 4] * 2
    whole, parts = layer(), layer()
    linear_step([x], [dy], *whole)
    linear_step(list(x[:, None]), list(dy[:, None]), *parts)
    assert whole[0].t_accum.tolist() == parts[0].t_accum.tolist() == [[-4] * 4] * 2


def test_what_a_step_is_given_stays_as_it_is() -> None:
    """A checked `how` cannot be changed to an unchecked one, and a state keeps its arrays."""
    state, how = layer()
    for held, field in ((how, "step"), (state, "codes")):
        with pytest.raises(FrozenInstanceError):
            setattr(held, field, 2**40)
