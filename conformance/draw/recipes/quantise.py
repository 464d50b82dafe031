"""Vectors of the four quantisers."""

from __future__ import annotations

from typing import Any

import numpy as np

from arbitor.conformance.draw.recipes.recipe import (
    INFINITY,
    LARGEST,
    NAN,
    ONES,
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

_TIES = f32([[127, 0.5, -0.5, 1.5, -1.5, 126.5, -126.5, 2**-17], [-127, 2.5, -2.5, 0.5, 0.25, -0.25, 0, 1]])
_EDGES = patterns([
    [0x42FE0000, 0x3F800000],  # 127: the largest that e = 0 holds
    [0x42FE0001, 0x3F800000],  # the next float
    [0x3F800000, 0xBF800000],  # a power of two
    [0x42FDFFFF, SIGN | 0x42FE0000],
])  # fmt: skip
_SMALL = patterns([
    [0, SIGN, 0], [1, SIGN | 1, 0], [0x7FFFFF, 0x400000, SIGN | 0x7FFFFF], [0x800000, 1, 0],
    [0x10FE0000, 0x0D800000, 0x0D000000],  # about 2^-93 and less: the exponent stops at -100
])  # fmt: skip
_HUGE = patterns([[LARGEST, SIGN | LARGEST, 0x3F800000], [0x7F000000, 0x7E800000, SIGN | 0x7D000000]])
_POISON = patterns([
    [INFINITY, 0x3F800000], [SIGN | INFINITY, 0], [NAN, 0x3F800000], [0, 0x7F800001], [ONES, 0],
    [0x3F800000, 0xBF800000],  # a clean row among them
])  # fmt: skip
_MIXED = (drawn(-1000, 1000, 3, 5, seed=9) / 64).astype(np.float32)
_WHY_TIES = "Ties go up, also those below zero; f is cut toward zero, so 2^-17 is nothing."
_WHY_EDGES = "The mantissa 0x7E0000 and its neighbours decide the exponent."
_WHY_SMALL = "Zeros of both signs, subnormals, the smallest normal: the exponent is -100 and nothing flushes."
_WHY_HUGE = "The largest float32 has e = 122, the highest exponent."
_WHY_POISON = "Infinities, quiet and signalling NaNs of both signs poison their row and no other."

NEAREST = [
    Recipe("ties", "QUANT-003 QUANT-004 QUANT-008", _WHY_TIES, {"x": _TIES}),
    Recipe("exponent-edges", "QUANT-002", _WHY_EDGES, {"x": _EDGES}, known={"exponents": [0, 1, -6, 0]}),
    Recipe("small", "QUANT-001 QUANT-002", _WHY_SMALL, {"x": _SMALL}),
    Recipe("huge", "QUANT-002 QUANT-006", _WHY_HUGE, {"x": _HUGE}),
    Recipe("poison", "QUANT-007", _WHY_POISON, {"x": _POISON}),
    Recipe("one-element", "QUANT-002", "A row of one: |q| is at least 64.", {"x": f32([[-3.0]])}),
    refused(
        "refuses-int32", "LIN-006", "Integers are not converted.", {"x": i32([[1]])}, "x", "x", "float32"
    ),
    refused("refuses-one-axis", "LIN-006", "A vector is no matrix.", {"x": f32([1.0, 2.0])}, "x", "x"),
]  # fmt: skip

NEAREST_BOTH = [
    Recipe("ties", "QUANT-004 QUANT-011", _WHY_TIES, {"x": _TIES}),
    Recipe("ragged", "QUANT-011", "Three rows of five: q_t has the other shape.", {"x": _MIXED}),
    Recipe("small", "QUANT-001 QUANT-002 QUANT-011", _WHY_SMALL, {"x": _SMALL}),
    Recipe("poison", "QUANT-007 QUANT-011", _WHY_POISON, {"x": _POISON}),
    refused(
        "refuses-int8", "LIN-006", "Integers are not converted.", {"x": i8([[1]])}, "x", "x", "float32"
    ),
]  # fmt: skip


def _bits(first_row: int = 0, seed: int = 5, step: int = 2, stream: int = 17) -> dict[str, Any]:
    return {"seed": seed, "step": step, "stream": stream, "first_row": first_row}


_FRACTIONS = f32([[127, 0.5, -0.5, 0.25, -0.25, 2**-16], [127, -(2**-16), 126.9375, -126.9375, 0, -127]])

STOCHASTIC = [
    Recipe("ordinary", "QUANT-005 QUANT-009 RNG-004", "Every kind of remainder.", {"x": _MIXED, **_bits()}),
    Recipe(
        "first-row", "QUANT-009 RNG-003", "The same rows later in the step: other bits, the same exponents.",
        {"x": _MIXED, **_bits(2**20)},
    ),
    Recipe(
        "fractions", "QUANT-005 QUANT-006", "One part in 2^16 below and above an integer, and the rails.",
        {"x": _FRACTIONS, **_bits(1)},
    ),
    Recipe(
        "largest", "QUANT-009 RNG-002", "Seed, step and stream at their largest.",
        {"x": _FRACTIONS, **_bits(0, 2**64 - 1, ONES, ONES)},
    ),
    Recipe("small", "QUANT-001 QUANT-002", _WHY_SMALL, {"x": _SMALL, **_bits()}),
    Recipe("poison", "QUANT-007 QUANT-009", _WHY_POISON, {"x": _POISON, **_bits()}),
    refused(
        "refuses-first-row", "STATE-005", "One more than the last token of a step.",
        {"x": _MIXED, **_bits(2**20 + 1)}, "first_row", "first_row", 2**20 + 1,
    ),
    refused(
        "refuses-int16", "LIN-006", "Integers are not converted.", {"x": i16([[1]]), **_bits()}, "x", "x",
        "float32",
    ),
]  # fmt: skip


def _columns(dy: Any, e_x: list[int], **more: Any) -> dict[str, Any]:
    return {"dy": dy, "e_x": i8(e_x), **(_bits() | more)}


COLUMNS = [
    Recipe(
        "ordinary", "QUANT-010 QUANT-005", "Rows at three scales: one exponent a column, over all of them.",
        _columns(_MIXED, [0, -3, 4], first_row=7),
    ),
    Recipe(
        "overflow", "QUANT-010 QUANT-007", "One product leaves float32 and poisons its column only.",
        _columns(patterns([[LARGEST, 0x3F800000], [0x3F800000, 0x3F800000]]), [1, 0]),
    ),
    Recipe(
        "largest-product", "QUANT-010 QUANT-007", "2^127 and the largest float32 are finite, 2^128 is not.",
        _columns(patterns([[0x42000000, SIGN | 0x427FFFFF, 0x42800000]]), [122]),
        known={"exponents": [121, 122, 127]},
    ),
    Recipe(
        "poisoned-row", "QUANT-010 QUANT-007", "A row of exponent 127 poisons every column, whatever dy is.",
        _columns(f32([[0, 0], [1, 2]]), [127, 0]),
    ),
    Recipe(
        "subnormals", "QUANT-010", "2^-149 * 2^100 is 2^-49: subnormal inputs count in full.",
        _columns(patterns([[1, 0x7FFFFF, SIGN | 1], [0, 0, 0x400000]]), [100, 100]),
    ),
    Recipe(
        "underflow", "QUANT-010 QUANT-001", "Products below 2^-126 do not matter: e is -100.",
        _columns(patterns([[0x3F800000, 1], [0x00800000, SIGN | 1]]), [-100, -100]),
    ),
    Recipe(
        "nan", "QUANT-007 QUANT-010", "A NaN poisons its column.",
        _columns(patterns([[NAN, 0], [0x3F800000, 0x3F800000]]), [0, 0]),
    ),
    refused(
        "refuses-e_x-of-other-length", "LIN-006", "One exponent a row.", _columns(_MIXED, [0, 0]), "e_x"
    ),
    refused(
        "refuses-int16", "LIN-006", "Exponents are int8.",
        {"dy": f32([[1.0]]), "e_x": i16([0]), **_bits()}, "e_x", "e_x", "int8",
    ),
    refused(
        "refuses-126", "LIN-006 QUANT-007", "No quantiser gives an exponent between 122 and 127.",
        _columns(f32([[1.0]]), [126]), "e_x", 126, seen_by="judges",
    ),
]  # fmt: skip
