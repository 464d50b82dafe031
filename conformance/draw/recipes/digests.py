"""Vectors of `digest`."""

from __future__ import annotations

from arbitor.conformance.draw.recipes.recipe import Recipe, drawn, i32, i64, refused

_OF_A_PLACE, _ALL = 0x9E3779B97F4A7C15, 2**64
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1
_HIGH = drawn(-(2**21), 2**21 - 1, 3, 7, seed=21)
_ROWS = _HIGH << 42 | drawn(0, 2**21 - 1, 3, 7, seed=22) << 21 | drawn(0, 2**21 - 1, 3, 7, seed=23)


def _signed(number: int) -> int:
    return (number + 2**63) % _ALL - 2**63


def _state_at(seed: int, place: int) -> int:
    """The word that is this state of SplitMix64 once its place is taken out."""
    n = (place + 1) * _OF_A_PLACE
    return _signed((seed + n) % _ALL ^ n % _ALL)


DIGEST = [
    Recipe(
        "splitmix64", "DIG-001",
        "The first numbers of SplitMix64 from the seed 1234567, each a row of one word at its place.",
        {"words": i64([[_state_at(1_234_567, place)] for place in range(5)]), "first": i64(range(5))},
        known={"digests": [
            6_457_827_717_110_365_317, 3_203_168_211_198_807_973, _signed(9_817_491_932_198_370_423),
            4_593_380_528_125_082_431, _signed(16_408_922_859_458_223_821),
        ]},
    ),
    Recipe("ordinary", "DIG-001", "Rows of seven, at places of their own.",
           {"words": _ROWS, "first": i64([0, 7, 1_000_003])}),
    Recipe("zeros", "DIG-001", "Words of 0 add nothing at any place, at a row's end and within it.",
           {"words": i64([[0, 0, 0], [5, 0, 0], [5, 0, -6], [5, -6, 0]]), "first": i64([9, 1, 1, 1])}),
    Recipe("one row", "DIG-001", "The row of which the next vector has the parts.",
           {"words": _ROWS[:1], "first": i64([40])}),
    Recipe("its parts", "DIG-001", "Two equal parts and a word: with the places that they have in the row "
           "their digests add up to its own.",
           {"words": i64([[*_ROWS[0, :3]], [*_ROWS[0, 3:6]], [_ROWS[0, 6], 0, 0]]),
            "first": i64([40, 43, 46])}),
    Recipe("swapped", "DIG-001", "The same words in another order, and at other places.",
           {"words": i64([[1, 2, 3], [2, 1, 3], [3, 2, 1], [1, 2, 3]]), "first": i64([0, 0, 0, 1])}),
    Recipe(
        "wraps", "DIG-001",
        "Words at the ends of int64, places that pass 2^63 and 0: shifts are of words without a sign.",
        {"words": i64([[_LOWEST, _HIGHEST, -1, 1]] * 4), "first": i64([_HIGHEST, _HIGHEST - 1, _LOWEST, -2])},
    ),
    Recipe("nothing but a place", "DIG-001", "The one word beside 0 that gives 0, at the place 0.",
           {"words": i64([[_signed(_OF_A_PLACE)]]), "first": i64([0])}, known={"digests": [0]}),
    refused("refuses-int32", "LIN-006", "Words are int64.", {"words": i32([[1]]), "first": i64([0])},
            "words", "words", "int64"),
    refused("refuses-another-length", "LIN-006", "A first place for each row.",
            {"words": i64([[1], [2]]), "first": i64([0])}, "first", "first"),
]  # fmt: skip
