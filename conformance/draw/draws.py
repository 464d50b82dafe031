"""The decisions of one call, taken one after another from `choose`.

Every integer and every array of a call is made here, so both ends of what each may be (ranges.py) are among
what is drawn, whoever wrote its builder. `at` puts an argument at one of its ends for certain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from arbitor.conformance.draw.arrays import (
    FLOAT_SPIKES,
    FLOATS,
    POISON_SPIKES,
    Array,
    Kinds,
    Shape,
    among,
    packed,
)
from arbitor.conformance.draw.extents import BUDGET, Choose, extents
from arbitor.conformance.draw.ranges import BOUNDS, Ends, ends_of
from arbitor.kernels.operations import EXTENT_OF, OPERATIONS
from arbitor.kernels.operations import Array as Declared

LOW, HIGH = 0, 1  # ends
END = ("lowest", "highest")
LETTER_OF = EXTENT_OF | {"out_features": "O"}
PACKED = {"codes": (4, 4), "dense": (5, 3)}  # fields of a byte and their base
CHUNK = 2**32


@dataclass
class Draws:
    """Decisions of a call of `operation`.

    `fixed` has extents by their letters, integers by their names and a rule that are not to be chosen; `at`
    has arguments that are to be at their lowest or highest, everywhere.
    """

    operation: str
    choose: Choose
    tiles: Mapping[str, int] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    at: Mapping[str, int] = field(default_factory=dict)
    known: dict[str, Any] = field(default_factory=dict)  # what the ends of arrays depend on

    def integer(self, name: str, *usual: int) -> int:
        """One of the usual values (the simplest first), either end, or any between."""
        low, high = BOUNDS[name]
        assert high is not None, f"{name} is an extent"
        self.known[name] = self.fixed[name] if name in self.fixed else self._integer(name, low, high, usual)
        return int(self.known[name])

    def _integer(self, name: str, low: int, high: int, usual: tuple[int, ...]) -> int:
        if name in self.at:
            return (low, high)[self.at[name]]
        found = self.choose((*dict.fromkeys((*usual, low, high)), None))
        if found is not None:
            return int(found)
        step = 4 if name == "group_size" else 1
        return low + step * self._below((high - low) // step + 1)

    def _below(self, count: int) -> int:
        """Any of 0 ... count - 1, count at most 2^64."""
        if count <= CHUNK:
            return int(self.choose(range(count)))
        high, low = self.choose(range(CHUNK)), self.choose(range(CHUNK))
        return (int(high) * CHUNK + int(low)) % count

    def extents(self, letters: str, grouped: str = "", share: int = 1) -> list[int]:
        """Extents of these letters, `grouped` that of the axis that has groups, whose size is known then. A
        `share` of n has an n-th of the usual product."""
        single = {letter for name, letter in LETTER_OF.items() if name in self.at}
        given = {**self.fixed, **dict.fromkeys(single, 1)}
        drawn = "".join(letter for letter in letters if letter not in given)
        size = self.known.get("group_size", 0)
        chosen = extents(self.choose, drawn, self.tiles, grouped, size, BUDGET // share)
        found = dict(zip(drawn, chosen, strict=True)) | given
        if "V" in letters:
            self.known["rows"] = found["V"]
        return [found[letter] for letter in letters]

    def ends(self, name: str) -> Ends:
        """Lowest and highest of what that array may hold; trits of a packed one."""
        return (-1, 1) if name in PACKED else ends_of(self._declared(name), self.known)

    def array(self, name: str, kinds: Kinds, shape: Shape, also: tuple[int, ...] = ()) -> Array:
        """int64 of one of the kinds, or all at an end, with up to two elements at an end or one of `also`.

        Trits of a packed array; patterns of a float one.
        """
        low, high = self.ends(name)
        if name in self.at:
            return np.full(shape, (low, high)[self.at[name]], np.int64)
        kinds = {**kinds, "lowest": among(low), "highest": among(high), "ends": among(low, high)}
        build = kinds[self.choose(list(kinds))]
        array = build(np.random.default_rng(self.choose(range(CHUNK))), shape)
        for _ in range(self.choose((0, 0, 1, 2))):
            array.reshape(-1)[self.choose(range(array.size))] = self.choose((low, high, *also))
        return array

    def floats(self, name: str, shape: Shape) -> Array:
        """Patterns of one of the kinds of floats, rows of two axes; sometimes with a NaN or an infinity."""
        poison = self.choose((False, False, True))
        return self.array(name, FLOATS, shape, FLOAT_SPIKES + poison * POISON_SPIKES)

    def tensor(self, name: str, kinds: Kinds, shape: Shape, also: tuple[int, ...] = ()) -> torch.Tensor:
        """`array` in the dtype that the table of operations has."""
        return self.stored(name, self.array(name, kinds, shape, also))

    def stored(self, name: str, array: Array) -> torch.Tensor:
        """What `array` gives for that argument as its tensor, packed where the argument is."""
        if name in PACKED:
            return torch.from_numpy(packed(array, *PACKED[name]))
        dtype = self._declared(name).dtype
        if dtype == "float32":
            return torch.from_numpy(np.ascontiguousarray(array).astype(np.uint32)).view(torch.float32)
        return torch.from_numpy(np.ascontiguousarray(array).astype(dtype))

    def _declared(self, name: str) -> Declared:
        return next(array for array in OPERATIONS[self.operation].arrays if array.name == name)
