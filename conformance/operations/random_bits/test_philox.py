"""`philox`: words of the generator by logical index."""

import pytest

from arbitor.conformance.judge.target import Arguments, Target
from arbitor.conformance.operations.common import agreement, refusals, repetition

test_agrees, test_ends = agreement("philox", "ARB-RNG-001", "ARB-RNG-002", "ARB-RNG-003")
test_refuses = refusals("philox")
test_repeats = repetition("philox")

ONES = 2**32 - 1
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0)


def words(target: Target, first: int, count: int, **changes: int) -> list[int]:
    arguments: Arguments = {"first": first, "count": count, "seed": 7, "step": 3, "stream": 19} | changes
    found: list[int] = target.check("philox", arguments)["words"].tolist()
    return found


@pytest.mark.clause("ARB-RNG-001", "ARB-RNG-002")
def test_known_answers_of_random123(target: Target) -> None:
    """Those whose counter an index up to 2^62 can give; the judge has the others in its own tests."""
    zero = words(target, 0, 4, seed=0, step=0, stream=0)
    assert zero == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


@pytest.mark.clause("ARB-RNG-002")
@pytest.mark.parametrize("first", [0, 2**34 - 4, 2**62 - 2**34 - 4, 2**62 - 9])
def test_an_index_has_one_word_wherever_the_call_starts(target: Target, first: int) -> None:
    whole = words(target, first, 17)
    for skip in range(9):
        for count in (1, 2, 3, 4, 5, 8):
            assert words(target, first + skip, count) == whole[skip : skip + count]


@pytest.mark.clause("ARB-RNG-002")
@pytest.mark.parametrize("change", [{"seed": 7 + 2**32}, {"seed": 8}, {"step": 4}, {"stream": 20}])
def test_every_argument_counts(target: Target, change: dict[str, int]) -> None:
    assert set(words(target, 40, 8)).isdisjoint(words(target, 40, 8, **change))


@pytest.mark.clause("ARB-RNG-002")
def test_largest_arguments(target: Target) -> None:
    found = words(target, 2**62, 8, seed=2**64 - 1, step=ONES, stream=ONES)
    assert all(0 <= word <= ONES for word in found)


@pytest.mark.clause("ARB-RNG-003")
def test_many_words(target: Target) -> None:
    """More than a chunk of any backend's work."""
    count = 600_000 if target.judge.arrays != "lists" else 3_000
    words(target, 1, count)


@pytest.mark.clause("ARB-RNG-002", "ARB-RNG-003")
def test_whole_blocks_that_begin_inside_a_counter(target: Target) -> None:
    """As many words as blocks have, of one counter more: the last are in a block of their own."""
    count = 131_072 if target.judge.arrays != "lists" else 1_024
    words(target, 3, count)
