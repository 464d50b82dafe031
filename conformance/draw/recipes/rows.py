"""Vectors of the operations on rows."""

from __future__ import annotations

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
    patterns,
    refused,
)

_MIXED = (drawn(-1000, 1000, 3, 7, seed=11) / 64).astype(np.float32)
_CHANGE = (drawn(-1000, 1000, 3, 7, seed=12) / 65536).astype(np.float32)
_ENDS = patterns([
    [LARGEST, SIGN | LARGEST, 0x3F800000], [0x00800000, 0x80800000, 1], [0, SIGN, 0x0D800000],
    [0x3A800000, 0x3A7FFFFF, 0xBA800001],  # about 2^-10, the bound of the factor
])  # fmt: skip
_POISON = patterns([[INFINITY, 0], [0x3F800000, 0xBF800000], [NAN, 0x3F800000], [0, SIGN | 0x7F800001]])
_CLEAN = f32([[1, -2], [3, 4], [0.5, 0.25], [0, 1]])
_WHY_ENDS = (
    "The largest and the smallest floats, zeros of both signs, and rows about the bound of the factor."
)
_WHY_POISON = "Infinities and NaNs take their own row only, and give one NaN."

NORM = [
    Recipe("ordinary", "ROW-001 NORM-001 FLOAT-001", "Rows of seven.", {"x": _MIXED}),
    Recipe("ends", "NORM-001 FLOAT-001", _WHY_ENDS, {"x": _ENDS}),
    Recipe(
        "one", "NORM-001", "A row of one is 1, but for what was dropped.",
        {"x": f32([[127.0], [-127.0], [1.0]])},
        known={"y": [0x3F800000, 0xBF800000, 0x3F800000]},
    ),
    Recipe("poison", "ROW-001", _WHY_POISON, {"x": _POISON}),
    refused("refuses-int8", "LIN-006", "Integers are not converted.", {"x": i8([[1]])}, "x", "x", "float32"),
]  # fmt: skip

NORM_BACKWARD = [
    Recipe("ordinary", "ROW-001 NORM-002 FLOAT-001", "Rows of seven.", {"dy": _CHANGE, "x": _MIXED}),
    Recipe("ends", "NORM-002 FLOAT-002", _WHY_ENDS, {"dy": _ENDS[::-1, ::-1].copy(), "x": _ENDS}),
    Recipe(
        "to nothing and to infinity", "FLOAT-002", "What leaves float32 is 0 below and infinite above.",
        {
            "dy": patterns([[0x00800000, 0x01000000], [0x7F000000, 0]]),
            "x": f32([[2.0**100, 1], [2.0**-60, 1e-19]]),
        },
    ),
    Recipe(
        "along x", "NORM-002", "A gradient along x is gone, but for what was dropped.",
        {"dy": f32([[3, -4]]), "x": f32([[3, -4]])},
    ),
    Recipe("poison of x", "ROW-001", _WHY_POISON, {"dy": _CLEAN, "x": _POISON}),
    Recipe("poison of dy", "ROW-001", _WHY_POISON, {"dy": _POISON, "x": _CLEAN}),
    refused(
        "refuses-another-shape", "LIN-006", "A gradient has the shape of its argument.",
        {"dy": f32([[1.0, 2.0]]), "x": f32([[1.0]])}, "x", "x",
    ),
]  # fmt: skip

DOT = [
    Recipe("ordinary", "ROW-001 DOT-001", "Rows of seven.", {"a": _MIXED, "b": _CHANGE}),
    Recipe("ends", "DOT-001 FLOAT-002", _WHY_ENDS, {"a": _ENDS, "b": _ENDS[::-1].copy()}),
    Recipe(
        "to nothing and to infinity", "FLOAT-002", "What leaves float32 is 0 below and infinite above.",
        {
            "a": f32([[2.0**-70, 0], [2.0**70, 0], [2.0**70, 0]]),
            "b": f32([[2.0**-70, 1], [2.0**70, 0], [-(2.0**70), 0]]),
        },
    ),
    Recipe("poison", "ROW-001", _WHY_POISON, {"a": _POISON, "b": _CLEAN}),
    refused(
        "refuses-another-shape", "LIN-006", "Rows of one length.",
        {"a": f32([[1.0, 2.0]]), "b": f32([[1.0]])}, "b", "b",
    ),
]  # fmt: skip
