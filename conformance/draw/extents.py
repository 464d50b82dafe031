"""Extents that shapes are drawn from: small ones, powers of two and their neighbours, several groups of a
size, and what lies around the tiles that a backend declares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from arbitor.conformance.judge.target import Target

Choose = Callable[[Sequence[Any]], Any]

EXTENTS = (*range(1, 10), 15, 16, 17, 31, 32, 33, 63, 64, 65)
BUDGET = 20_000  # products of one operation
TILE_BUDGET = 200_000  # where extents around a declared tile are drawn

_declared: dict[str, Mapping[str, int]] = {}  # extents by their letters, by operation


def draw_around_tiles(target: Target) -> None:
    """From now on `arguments_of` draws shapes around the tiles that the backend declares too.

    Not where lists of Python integers judge, which would take minutes.
    """
    capabilities = target.backend.capabilities
    lists = target.judge.arrays == "lists"
    _declared.clear()
    _declared.update({} if capabilities is None or lists else capabilities.tiles)


def tiles_of(operation: str) -> Mapping[str, int]:
    """The tiles that are declared of an operation."""
    return _declared.get(operation, {})


def around(tile: int) -> list[int]:
    """One less and one more than a tile, one tile and two, the simplest first."""
    return [n for n in (tile, tile + 1, tile - 1, 2 * tile) if n > 0]


def extents(
    choose: Choose,
    letters: str,
    tiles: Mapping[str, int],
    grouped: str = "",
    group_size: int = 0,
    budget: int = BUDGET,
) -> list[int]:
    """Extents of these letters; where a tile of one is declared, half of them are around it.

    `grouped` is the letter of the axis that has groups of `group_size`: where those are longer than all other
    extents, half of its extents lie around one group and two, most of them with more than one.
    """
    long = group_size > max(EXTENTS)
    found: dict[str, int] = {}
    for letter in sorted(letters, key=lambda letter: long and letter != grouped):
        product = prod(found.values())
        options = [n for n in EXTENTS if n * product <= budget] or [1]
        if letter in tiles:
            near = [n for n in around(tiles[letter]) if n * product <= TILE_BUDGET]
            options += near * (len(options) // 4)
        if long and letter == grouped:
            several = (group_size + 1, 2 * group_size, 2 * group_size + 5, group_size - 1)
            options += several * (len(options) // 4)
        found[letter] = choose(options)
    return [found[letter] for letter in letters]
