"""Vectors of probabilities and losses."""

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
    i32,
    i64,
    patterns,
    refused,
)

_LOGITS = (drawn(-1000, 1000, 3, 7, seed=21) / 128).astype(np.float32)
_FAR = f32([[0, -21, -22], [0, -200, -1e30], [3e38, -3e38, 0], [-3e38, -3e38, -3e38], [1e-40, -1e-40, 0]])
_POISON = patterns([[INFINITY, 0], [0x3F800000, 0x3F800000], [NAN, 0], [0, SIGN | INFINITY]])
_SHARES = f32([[0.5, 0.25, 0.125, 0.125], [1, 0, 0, 0], [0.25, 0.25, 0.25, 0.25]])
_CHANGE = (drawn(-1000, 1000, 3, 4, seed=22) / 4096).astype(np.float32)
_WHY_FAR = "Little and nothing is left of what is far below the largest; the ends of float32 and subnormals."
_WHY_POISON = "Infinities and NaNs take their own row only, and give one NaN."

SOFTMAX = [
    Recipe("ordinary", "SOFT-001 EXP-001 EXP-002 FLOAT-001", "Rows of seven.", {"x": _LOGITS}),
    Recipe("far", "SOFT-001 EXP-002", _WHY_FAR, {"x": _FAR}),
    Recipe("poison", "ROW-001", _WHY_POISON, {"x": _POISON}),
    refused("refuses-int8", "LIN-006", "Integers are not converted.", {"x": i8([[1]])}, "x", "x", "float32"),
]

SOFTMAX_BACKWARD = [
    Recipe("ordinary", "SOFT-002 ROW-001 FLOAT-001", "Rows of four.", {"dp": _CHANGE, "p": _SHARES}),
    Recipe(
        "equal", "SOFT-002", "A gradient that is the same everywhere has no part in it.",
        {"dp": f32([[3, 3, 3, 3]] * 3), "p": _SHARES},
    ),
    Recipe(
        "no probabilities", "SOFT-002", "127 * 2^-6 is the last float whose exponent is -6.",
        {"dp": f32([[1, 2], [1, 2]]), "p": patterns([[0x3FFE0000, 0], [0x3FFE0001, 0]])},
    ),
    Recipe(
        "to nothing and to infinity", "FLOAT-002", "What leaves float32 is 0 below and infinite above.",
        {
            "dp": patterns([[LARGEST, SIGN | LARGEST], [0x00800000, 0x80800000]]),
            "p": f32([[1, 1], [0.25, 0.75]]),
        },
    ),
    Recipe("poison", "ROW-001", _WHY_POISON, {"dp": _POISON, "p": f32([[0.5, 0.5]] * 4)}),
    refused(
        "refuses-another-shape", "LIN-006", "A gradient has the shape of what it is of.",
        {"dp": f32([[1.0, 2.0]]), "p": f32([[1.0]])}, "p", "p",
    ),
]  # fmt: skip

SIGMOID = [
    Recipe("ordinary", "SOFT-003 EXP-002 FLOAT-001", "Both signs.", {"x": _LOGITS}),
    Recipe("far", "SOFT-003", _WHY_FAR, {"x": _FAR}),
    Recipe(
        "no numbers", "SOFT-003", "Infinities have a limit, a NaN is one NaN, and neighbours stay.",
        {"x": patterns([[INFINITY, SIGN | INFINITY, NAN, SIGN | 0x7F800001, 0]])},
        known={"y": [0x3F800000, 0, NAN, NAN, 0x3F000000]},
    ),
    refused(
        "refuses-int32", "LIN-006", "Integers are not converted.", {"x": i32([[1]])}, "x", "x", "float32"
    ),
]  # fmt: skip

CROSS_ENTROPY = [
    Recipe(
        "ordinary", "LOSS-001 EXP-001 EXP-002 EXP-003", "Rows of seven.",
        {"x": _LOGITS, "targets": i64([0, 3, 6])},
    ),
    Recipe(
        "equal", "LOSS-001 EXP-003", "Equal logits of four classes: two octaves.",
        {"x": f32([[-7.5] * 4]), "targets": i64([2])}, known={"losses": [2 << 20]},
    ),
    Recipe("far", "LOSS-001 EXP-002", _WHY_FAR, {"x": _FAR, "targets": i64([1, 2, 1, 0, 1])}),
    Recipe("poison", "LOSS-001 ROW-001", _WHY_POISON, {"x": _POISON, "targets": i64([0, 1, 0, 1])}),
    refused(
        "refuses-a-target", "LOSS-002", "The number of classes is no class.",
        {"x": _LOGITS, "targets": i64([0, 7, 6])}, "targets", "targets", 1, 7, seen_by="cpu",
    ),
    refused(
        "refuses-int32", "LIN-006", "Targets are int64.", {"x": _LOGITS, "targets": i32([0, 1, 2])},
        "targets", "targets", "int64",
    ),
]  # fmt: skip

SQUARED_ERROR = [
    Recipe("ordinary", "LOSS-003 FLOAT-001", "Rows of seven.", {"x": _LOGITS, "y": _LOGITS[::-1].copy()}),
    Recipe(
        "units", "LOSS-003", "2^-10 is one unit, 2^-11 none; 2^10 is the most that counts.",
        {"x": f32([[2.0**-10, 2.0**-11], [2.0**11, -3e38]]), "y": f32([[0, 0], [0, 0]])},
        known={"losses": [1, 2 << 40]},
    ),
    Recipe("poison", "LOSS-003", "A row with what is not finite, or has no finite difference, has -1.",
           {"x": _POISON, "y": f32([[0, 0]] * 4)}),
    refused(
        "refuses-another-shape", "LIN-006", "What is compared has one shape.",
        {"x": f32([[1.0, 2.0]]), "y": f32([[1.0]])}, "y", "y",
    ),
]  # fmt: skip
