"""What a recipe of a test vector is, and the arrays that recipes are written with.

A recipe has arguments, chosen by hand, and never a result: that comes from the reference. Where a number is
known from elsewhere (`known`), the reference must give it, or no vector is made. NumPy's generators are not
used, since their streams may change with its version.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arbitor.conformance.draw.arrays import packed
from arbitor.judge.vectors import EVERYONE

Ints = NDArray[Any]

u8 = partial(np.array, dtype=np.uint8)
i8 = partial(np.array, dtype=np.int8)
i16 = partial(np.array, dtype=np.int16)
i32 = partial(np.array, dtype=np.int32)
i64 = partial(np.array, dtype=np.int64)
f32 = partial(np.array, dtype=np.float32)

ONES = 2**32 - 1
INT32_MAX = 2**31 - 1
INFINITY, NAN, LARGEST, SIGN = 0x7F800000, 0x7FC00000, 0x7F7FFFFF, 1 << 31


@dataclass(frozen=True)
class Refusal:
    """The argument at fault, what the message must name, and who has to notice (arbitor/judge/vectors.py)."""

    argument: str
    names: tuple[str | int, ...]
    seen_by: str = EVERYONE


@dataclass(frozen=True)
class Recipe:
    """One vector without its result; `clauses` are numbers of ids, parted by blanks: "PACK-001 PACK-002"."""

    name: str
    clauses: str
    why: str
    arguments: dict[str, Any]
    refusal: Refusal | None = None
    known: dict[str, list[int]] = field(default_factory=dict)


def refused(
    name: str,
    clauses: str,
    why: str,
    arguments: dict[str, Any],
    argument: str,
    *names: str | int,
    seen_by: str = EVERYONE,
) -> Recipe:
    """The recipe of an illegal call."""
    return Recipe(name, clauses, why, arguments, Refusal(argument, names, seen_by))


def patterns(values: Any) -> NDArray[np.float32]:
    """float32 by bit patterns."""
    return np.array(values, np.uint32).view(np.float32)


def drawn(low: int, high: int, *shape: int, seed: int = 1) -> Ints:
    """int64 of that shape in low..high, from a generator of two numbers that stays what it is."""
    found, state = [], seed
    for _ in range(int(np.prod(shape))):
        state = (1_103_515_245 * state + 12_345) % 2**31
        found.append(low + (state >> 8) % (high - low + 1))
    return np.array(found, np.int64).reshape(shape)


def codes_of(trits: Any) -> NDArray[np.uint8]:
    """codes uint8 [R, ceil(C/4)] of trits [R, C]."""
    return packed(np.array(trits, np.int64)).astype(np.uint8)
