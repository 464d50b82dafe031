"""`digest`: one number for each row of words."""

from __future__ import annotations

import pytest
import torch

from arbitor.conformance.judge.target import Target
from arbitor.conformance.operations.common import agreement, int64, layouts, refusals, repetition

test_agrees, test_ends = agreement("digest", "ARB-DIG-001")
test_refuses = refusals("digest")
test_layouts = layouts("digest")
test_repeats = repetition("digest")

LOWEST, HIGHEST = -(2**63), 2**63 - 1
OF_A_PLACE = 0x9E3779B97F4A7C15
# the first numbers of SplitMix64 from this seed, as they are published
SEED = 1_234_567
PUBLISHED = [
    6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423,
    4_593_380_528_125_082_431, 16_408_922_859_458_223_821,
]  # fmt: skip


def signed(number: int) -> int:
    """The int64 that is the same modulo 2^64."""
    return (number + 2**63) % 2**64 - 2**63


def digests(target: Target, words: torch.Tensor, first: list[int]) -> list[int]:
    found: list[int] = target.check("digest", {"words": words, "first": int64(first)})["digests"].tolist()
    return found


def drawn(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """Words of all 64 bits, none of them 0."""
    generator = torch.Generator().manual_seed(seed)
    halves = torch.randint(0, 2**32, (2, rows, columns), generator=generator)
    return halves[0] << 32 | halves[1] | 1


@pytest.mark.clause("ARB-DIG-001")
def test_it_ends_as_splitmix64(target: Target) -> None:
    """A word that is the state of the generator, with its place taken out, gives what comes of that state;
    the first of a state of 0 too."""
    places = range(1, len(PUBLISHED) + 1)
    words = [[signed((SEED + n * OF_A_PLACE) % 2**64 ^ n * OF_A_PLACE % 2**64)] for n in places]
    found = digests(target, int64(words), [n - 1 for n in places])
    assert [digest % 2**64 for digest in found] == PUBLISHED
    one_of_0 = signed(OF_A_PLACE ^ 2 * OF_A_PLACE % 2**64)
    assert digests(target, int64([[one_of_0]]), [1]) == [signed(0xE220A8397B1DCDAF)]


@pytest.mark.clause("ARB-DIG-001")
def test_zeros_add_nothing(target: Target) -> None:
    """Alone they give 0, wherever they are; behind a row and within it they are as if they were not there."""
    assert digests(target, torch.zeros(4, 70, dtype=torch.int64), [0, 5, LOWEST, HIGHEST]) == [0] * 4
    words = drawn(3, 9)
    words[1, 2:7] = 0
    first = [0, 3, -4]
    padded = torch.nn.functional.pad(words, (0, 200))
    assert digests(target, padded, first) == digests(target, words, first)
    parts = [digests(target, words[1:2, :2], [3]), digests(target, words[1:2, 7:], [10])]
    assert signed(parts[0][0] + parts[1][0]) == digests(target, words, first)[1]


@pytest.mark.clause("ARB-DIG-001")
@pytest.mark.parametrize("word", [0, 1, -1, 0x0123456789ABCDEF, LOWEST])
def test_every_bit_counts(target: Target, word: int) -> None:
    """A row for each bit of the middle word, and one without a change: no two digests are equal."""
    words = drawn(1, 5).repeat(65, 1)
    words[:, 2] = int64([word] + [signed(word ^ 1 << bit) for bit in range(64)])
    assert len(set(digests(target, words, [7] * 65))) == 65


@pytest.mark.clause("ARB-DIG-001")
def test_places_count(target: Target) -> None:
    """Of words in another order, and of a row at another place."""
    words = drawn(1, 6)
    swapped = [words[:, [0, 1, 2, 4, 3, 5]], words[:, [5, 1, 2, 3, 4, 0]], words.flip(1)]
    found = digests(target, torch.cat([words, *swapped, words, words]), [0, 0, 0, 0, 1, -1])
    assert len(set(found)) == 6
    equal = torch.full((8, 1), 3)
    assert len(set(digests(target, equal, list(range(-4, 4))))) == 8


@pytest.mark.clause("ARB-DIG-001")
@pytest.mark.parametrize("first", [0, 12_345, HIGHEST - 20, LOWEST, -30])
def test_parts_of_a_row_add_up(target: Target, first: int) -> None:
    """Each with the first place of its own, also where places pass 2^63 or 0."""
    words = drawn(1, 50, seed=1)
    whole = digests(target, words, [first])[0]
    for cut in (1, 20, 21, 33, 49):
        left = digests(target, words[:, :cut], [first])[0]
        right = digests(target, words[:, cut:], [signed(first + cut)])[0]
        assert signed(left + right) == whole
    columns = digests(target, words.T.contiguous(), [signed(first + c) for c in range(50)])
    assert signed(sum(columns)) == whole


@pytest.mark.clause("ARB-DIG-001")
def test_extremes(target: Target) -> None:
    """Words and places at the ends of int64, all pairs of them, and rows whose sums wrap. At one place all
    words differ, but that at 2^63 - 1 the lowest gives 0 too."""
    values = [LOWEST, LOWEST + 1, -1, 0, 1, HIGHEST - 1, HIGHEST]
    for place in values:
        found = digests(target, int64([[word] for word in values]), [place] * len(values))
        zeros = [word for word, digest in zip(values, found, strict=True) if digest == 0]
        assert zeros == ([LOWEST, 0] if place == HIGHEST else [0])
        assert len({*found}) == len(values) - len(zeros) + 1
    for word in (LOWEST, -1, HIGHEST):
        digests(target, torch.full((3, 40), word), [HIGHEST, HIGHEST - 20, LOWEST])


@pytest.mark.clause("ARB-DIG-001")
@pytest.mark.parametrize("columns", [4095, 4096, 4097, 9001, 131_073])
def test_long_rows(target: Target, columns: int) -> None:
    """Kernels take a long row in parts: its last word counts, and it is at its place."""
    words = torch.zeros(4, columns, dtype=torch.int64)
    words[0, -1] = words[1, -2] = words[2, 0] = words[3, columns // 2] = 77
    places = [columns - 1, columns - 2, 0, columns // 2]
    alone = digests(target, torch.full((4, 1), 77), [3 + place for place in places])
    assert digests(target, words, [3] * 4) == alone
    digests(target, drawn(2, columns), [0, -5])
