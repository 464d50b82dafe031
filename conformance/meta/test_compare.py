"""The comparison sees a bit, a dtype, a shape, the sign of a zero, the payload of a NaN; and says where."""

from __future__ import annotations

import pytest
import torch

from arbitor.conformance.draw.strategies import example
from arbitor.conformance.judge.compare import assert_same, difference
from arbitor.conformance.judge.repro import reproduction
from arbitor.conformance.operations.common import float32, from_bits, int8, uint8
from arbitor.kernels.operations import OPERATIONS

DTYPES = ("uint8", "int8", "int16", "int32", "int64", "float32")
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [0, 1, 85])
def test_every_bit_counts(dtype: str, value: int) -> None:
    expected = torch.full((2, 3), value, dtype=getattr(torch, dtype))
    assert difference("a", expected, expected.clone()) is None
    width = 8 * expected.element_size()
    for bit in range(width):
        actual = expected.clone()
        raw = actual.view(INTEGERS[expected.element_size()])
        raw[1, 2] ^= (1 << bit) - (1 << width if bit == width - 1 and width > 8 else 0)
        found = difference("a", expected, actual)
        assert found is not None
        assert "1 of 6 elements, first at [1, 2]" in found


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype_and_shape_count(dtype: str) -> None:
    expected = torch.zeros(4, dtype=getattr(torch, dtype))
    other = torch.int8 if dtype != "int8" else torch.uint8
    assert "dtype" in str(difference("a", expected, expected.to(other)))
    assert "shape [2, 2], expected [4]" in str(difference("a", expected, expected.reshape(2, 2)))
    assert "shape [1, 4], expected [4]" in str(difference("a", expected, expected[None]))
    assert "list" in str(difference("a", expected, expected.tolist()))
    assert "NoneType" in str(difference("a", expected, None))


def test_zeros_and_nans_by_their_bits() -> None:
    assert difference("y", float32([0.0]), float32([-0.0])) is not None
    nans = [0x7FC00000, 0x7FC00001, 0xFFC00000]
    for a in nans:
        for b in nans:
            same = difference("y", from_bits([a]), from_bits([b])) is None
            assert same == (a == b)


def test_large_integers_are_not_rounded() -> None:
    """2^30 and 2^30 + 1 are one number to a relative tolerance of 1e-7, and to float32."""
    one = torch.tensor([2**30], dtype=torch.int32)
    assert difference("gradient", one, one + 1) is not None
    assert difference("counts", one.long() << 30, (one.long() << 30) + 1) is not None


def test_nothing_to_compare_is_a_failure() -> None:
    for nothing in ({}, {"trits": torch.zeros(0, 3, dtype=torch.int8)}):
        with pytest.raises(AssertionError, match="nothing to compare"):
            assert_same("unpack", {}, nothing, nothing)


def test_the_message_says_what_is_wrong_where() -> None:
    trits = int8([[0] * 12, [1] * 12])
    expected = {"codes": uint8([[0x55] * 3, [0xAA] * 3])}
    actual = {"codes": uint8([[0x55] * 3, [0xAA, 0xA6, 0xEA]])}
    with pytest.raises(AssertionError) as caught:
        assert_same("pack", {"trits": trits}, expected, actual, "torch")
    message = str(caught.value)
    assert message.startswith(
        "pack: codes differs in 2 of 6 elements, first at [1, 1]: 170, expected, but got 166"
    )
    assert "expected [1, 0:3] trits ++++ ++++ ++++, bytes [170, 170, 170]" in message
    assert "got      [1, 0:3] trits ++++ +0++ +++?, bytes [170, 166, 234]" in message
    assert "target_of('torch').check('pack', dict(trits=torch.tensor([[0, 0," in message


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_small_reproduction_runs(operation: str) -> None:
    """The text in the message rebuilds the call; NaNs keep their payload."""
    seed = next(
        s for s in range(1000) if "too many" not in reproduction(operation, example(operation, s), "torch")
    )
    text = reproduction(operation, example(operation, seed), "reference")
    exec(text, {})
