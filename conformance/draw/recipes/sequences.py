"""Vectors of heads and attention."""

from __future__ import annotations

from typing import Any

import numpy as np

from arbitor.conformance.draw.recipes.recipe import (
    INFINITY,
    LARGEST,
    NAN,
    SIGN,
    Recipe,
    drawn,
    f32,
    i8,
    i16,
    i32,
    patterns,
    refused,
)
from arbitor.reference.sequences.rotary import rotary

Array = Any

_COS, _SIN = rotary(3, 2, 4)
_ANGLES = {"cos": _COS, "sin": _SIN}
_STRAIGHT = {"cos": i16([[16384]]), "sin": i16([[0]])}
_X = (drawn(-1000, 1000, 24, 4, seed=13) / 64).astype(np.float32).reshape(2, 2, 3, 2, 2, 2)
_CHANGES = {
    name: (drawn(-1000, 1000, 8, 4, seed=seed) / 65536).astype(np.float32).reshape(2, 2, 2, 2, 2)
    for seed, name in enumerate(("dq", "dk", "dv"), 14)
}
_ENDS = patterns([
    [LARGEST, SIGN | LARGEST], [0x00800000, 1], [0x3A800000, 0xBA7FFFFF],
]).reshape(1, 1, 3, 1, 2, 1)  # fmt: skip
_POISON = patterns([[INFINITY, 0], [NAN, 0x3F800000], [0, 0x3F800000]]).reshape(1, 1, 3, 1, 2, 1)
_ONES = {name: np.ones((1, 1, 1, 2, 1), np.float32) for name in ("dq", "dk", "dv")}
_WHY_ENDS = "The largest and the smallest floats, and a slice about the bound of the factor."
_WHY_POISON = "Infinities and NaNs take their own slice only."

HEADS = [
    Recipe("ordinary", "HEAD-001 HEAD-002 HEAD-003 HEAD-004 FLOAT-001", "Two sequences of two positions from "
           "position 3 on, two heads of four numbers.", {"x": _X} | _ANGLES),
    Recipe("ends", "HEAD-001 HEAD-003", _WHY_ENDS, {"x": _ENDS} | _STRAIGHT),
    Recipe(
        "angles that are none", "HEAD-002", "Cosines and sines of any int16: nothing overflows.",
        {"x": _X[:1, :1], "cos": i16([[-32768, 32767]]), "sin": i16([[-32768, -32768]])},
    ),
    Recipe("poison", "HEAD-003 ROW-001", _WHY_POISON, {"x": _POISON} | _STRAIGHT),
    refused(
        "refuses-angles of another head", "LIN-006", "Half a head has so many angles.",
        {"x": _ENDS, "cos": i16([[1, 2]]), "sin": i16([[1, 2]])}, "cos", "cos",
    ),
]  # fmt: skip

HEADS_BACKWARD = [
    Recipe("ordinary", "HEAD-005 FLOAT-001", "As in the vector of heads.", _CHANGES | {"x": _X} | _ANGLES),
    Recipe("ends", "HEAD-005 FLOAT-002", _WHY_ENDS, _ONES | {"x": _ENDS} | _STRAIGHT),
    Recipe(
        "a sine of -2", "HEAD-005", "-32768 has no opposite in int16.",
        _ONES | {"x": f32([[1, 2], [3, -4], [5, 6]]).reshape(1, 1, 3, 1, 2, 1)}
        | {"cos": i16([[3]]), "sin": i16([[-32768]])},
    ),
    Recipe("poison", "HEAD-005 ROW-001", _WHY_POISON, _ONES | {"x": _POISON} | _STRAIGHT),
    refused(
        "refuses-another-shape", "LIN-006", "A gradient has the shape of its part.",
        _ONES | {"dk": f32([1.0]).reshape(1, 1, 1, 1, 1), "x": _ENDS} | _STRAIGHT, "dk", "dk",
    ),
]  # fmt: skip


def _attended(batch: int, queries: int, positions: int, heads: int, dim: int) -> dict[str, Array]:
    counts = {"q": queries, "k": positions, "v": positions}
    return {
        name: drawn(-60, 60, batch * count * heads, dim, seed=seed)
        .astype(np.int8)
        .reshape(batch, count, heads, dim)
        for seed, (name, count) in enumerate(counts.items(), 20)
    }


def _with(attended: dict[str, Array], name: str, *place: int) -> dict[str, Array]:
    """The same with one slice of poison."""
    poisoned = attended[name].copy()
    poisoned[place] = -128
    return attended | {name: poisoned}


_SMALL, _FEW = _attended(2, 3, 5, 2, 4), _attended(1, 4, 4, 1, 2)
_FAR = {"q": i8([[[[127]]]]), "k": i8([[[[0]], [[-60]], [[-61]]]]), "v": i8([[[[1]], [[127]], [[127]]]])}

ATTENTION = [
    Recipe("a window", "ATT-001 ATT-002 ATT-003 EXP-004", "Three queries at the last of five positions; each "
           "sees two.", _SMALL | {"window": 2}),
    Recipe("all before", "ATT-001 ATT-003", "Each sees all up to its own.", _SMALL | {"window": 2**31 - 1}),
    Recipe("all", "ATT-001 ATT-003", "Each sees all.", _SMALL | {"window": 0}),
    Recipe(
        "one", "ATT-002 ATT-003", "One position has the weight 16383, and y is its value.",
        {"q": i8([[[[5]]]]), "k": i8([[[[7]]]]), "v": i8([[[[-64]]]]), "window": 0},
        known={"y": [0xC0000000], "top": [35], "total": [16383]},
    ),
    Recipe("far below", "ATT-002", "A weight of 1 nearly fifteen octaves below the largest, 0 below those.",
           _FAR | {"window": 0}, known={"total": [16384]}),
    Recipe("a poisoned key", "ATT-004", "What sees it is the NaN.",
           _with(_FEW, "k", 0, 1, 0) | {"window": 2}),
    Recipe("a poisoned value", "ATT-004", "The same.", _with(_FEW, "v", 0, 1, 0) | {"window": 2}),
    Recipe("a poisoned query", "ATT-004", "It alone.", _with(_FEW, "q", 0, 1, 0) | {"window": 2}),
    refused(
        "refuses-more queries than positions", "ATT-001", "The queries are the last of the positions.",
        _FEW | {"k": _FEW["k"][:, :3], "v": _FEW["v"][:, :3], "window": 0}, "k", 4,
    ),
    refused("refuses-window", "ATT-001", "No window is below 0.",
            _FEW | {"window": -1}, "window", "window", -1),
]  # fmt: skip

_TOP, _TOTAL = (
    i32([[[900, 10], [-3, 2000], [0, 5]]] * 2),
    i32([[[20000, 16383], [17000, 40000], [30000, 16383]]] * 2),
)
_GRADIENT = {
    "dy": (drawn(-1000, 1000, 12, 4, seed=31) / 65536).astype(np.float32).reshape(2, 3, 2, 4),
    "y": (drawn(-1000, 1000, 12, 4, seed=32) / 512).astype(np.float32).reshape(2, 3, 2, 4),
    "top": _TOP,
    "total": _TOTAL,
}


def _changed(name: str, pattern: int) -> dict[str, Array]:
    """The gradient with one other float, of the second sequence and first head."""
    array = _GRADIENT[name].copy()
    array.view(np.uint32)[1, 2, 0, 3] = pattern
    return _GRADIENT | {name: array}


ATTENTION_BACKWARD = [
    Recipe("a window", "ATT-005 ATT-006 FLOAT-001", "As in the vector of attention.",
           _GRADIENT | _SMALL | {"window": 2}),
    Recipe("all", "ATT-005 ATT-006", "Each sees all.", _GRADIENT | _SMALL | {"window": 0}),
    Recipe("the largest float", "ATT-006 FLOAT-002", "Beside it the others of its head are nothing.",
           _changed("dy", LARGEST) | _SMALL | {"window": 2}),
    Recipe("a large y", "ATT-005", "What no attention gives is 32512 at most, in units of 2^-13.",
           _changed("y", LARGEST) | _SMALL | {"window": 2}),
    Recipe("poison of dy", "ATT-006", "It takes its sequence and head.",
           _changed("dy", NAN) | _SMALL | {"window": 2}),
    Recipe("poison of y", "ATT-006", "The same.", _changed("y", INFINITY) | _SMALL | {"window": 2}),
    Recipe("a total of nothing", "ATT-006 ATT-004", "So has a query that is poisoned.",
           _GRADIENT | {"total": _TOTAL * i32([[[0, 1], [1, 1], [1, 1]], [[1, 1]] * 3])} | _SMALL
           | {"window": 2}),
    refused("refuses-another-shape", "LIN-006", "A gradient has the shape of what it is of.",
            _GRADIENT | {"dy": _GRADIENT["dy"][:1]} | _SMALL | {"window": 2}, "y", "y"),
]  # fmt: skip
