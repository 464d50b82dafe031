"""Vectors of `linear_forward`, `input_gradient` and `weight_gradient`."""

from __future__ import annotations

from typing import Any

import numpy as np

from arbitor.conformance.draw.recipes.recipe import Recipe, codes_of, drawn, i8, i16, refused, u8

_RAGGED = drawn(-1, 1, 3, 7, seed=3)
# 2064 products of 64 * 127 and nine of 1: Z = 2^24 + 1 and 2^24 + 3, halfway between two float32
_LONG, _GROUP = 2073, 688
_TIE = np.array([[127] * 2072 + [9], [127] * 2072 + [11], [-127] * 2072 + [-9]])
_TIE_SCALES = [6, 6, 6, 0]
_WHY_TIE = "Sums of 2^24 + 1 and 2^24 + 3 are ties in float32, and go to the even neighbour."
_WHY_RAILS = "Every operand at its rail: w^ = 64 does not wrap, and its sign is kept."
_WHY_OVERFLOW = "k stops at 127: infinities of both signs, and 0 * 2^127 is +0.0, no NaN."
_WHY_LOWEST = "k = -126, the smallest normal: nothing is subnormal."
_WHY_POISON = "A poisoned row is the NaN 0x7FC00000 in every element, the others are not touched."
_WHY_ZERO = "Sums that cancel give +0.0, never -0.0."
_WHY_RAGGED = "Seven features: one padding field, and a last group of three."


def _forward(
    q_x: Any, e_x: list[int], trits: Any, e: Any, base: int, span: int, group: int
) -> dict[str, Any]:
    scale = {"e_base": base, "e_span": span, "group_size": group}
    return {"q_x": i8(q_x), "e_x": i8(e_x), "codes": codes_of(trits), "e": i8(e), **scale}


def _forward_ragged(**more: Any) -> dict[str, Any]:
    q_x = drawn(-127, 127, 2, 7, seed=8)
    found = _forward(q_x, [-3, 5], _RAGGED, [[-3, -1], [0, -2], [-2, 0]], -3, 3, 4)
    return found | more


FORWARD = [
    Recipe("ragged", "LIN-001 STATE-002", _WHY_RAGGED, _forward_ragged()),
    Recipe(
        "rails", "LIN-001 STATE-003", _WHY_RAILS,
        _forward([[127] * 5, [-127] * 5], [0, 0], [[1] * 5, [-1] * 5], [[6, 6], [6, 6]], 0, 6, 4),
    ),
    Recipe(
        "ties-of-float32", "LIN-003", _WHY_TIE,
        _forward(_TIE, [0, 0, 0], [[1] * _LONG], [_TIE_SCALES], 0, 6, _GROUP),
        known={"y": [0x4B800000, 0x4B800002, 0xCB800000]},
    ),
    Recipe(
        "overflow", "LIN-001 LIN-003", _WHY_OVERFLOW,
        _forward([[127, 0], [-127, 0], [0, 127]], [122, 122, 122], [[1, 0]], [[26]], 26, 0, 4),
    ),
    Recipe(
        "lowest-scale", "LIN-003", _WHY_LOWEST, _forward([[1, 1], [127, 0]], [-100, -100], [[1, -1], [-1, 1]],
                                                         [[-26], [-26]], -26, 0, 1024),
    ),
    Recipe("poisoned-row", "LIN-004", _WHY_POISON, _forward_ragged(e_x=i8([127, 5]))),
    Recipe(
        "cancelling", "LIN-003", _WHY_ZERO,
        _forward([[-5, -5], [0, 0]], [0, -100], [[1, -1]], [[0]], 0, 6, 4), known={"y": [0, 0]},
    ),
    refused(
        "refuses-group-size-6", "STATE-005", "Groups are whole bytes.", _forward_ragged(group_size=6),
        "group_size", "group_size", 6,
    ),
    refused(
        "refuses-e_base-27", "STATE-003", "2^k could be more than float32 has.", _forward_ragged(e_base=27),
        "e_base", "e_base", 27,
    ),
    refused(
        "refuses-int16", "LIN-006", "Operands are int8.", _forward_ragged(q_x=i16([[1] * 7] * 2)), "q_x",
        "q_x", "int8",
    ),
    refused(
        "refuses-missing-groups", "LIN-006", "Seven features are two groups of four.",
        _forward_ragged(e=i8([[-3], [-3], [-3]])), "e",
    ),
    refused(
        "refuses-minus-128", "LIN-006 QUANT-006", "q has no -128.",
        _forward_ragged(q_x=i8([[1] * 7, [1] * 6 + [-128]])), "q_x", -128, seen_by="judges",
    ),
    refused(
        "refuses-code-3", "LIN-006 PACK-003", "No weight has code 3.",
        _forward_ragged(codes=u8([[85, 85], [0xD5, 85], [85, 85]])), "codes", 0xD5, seen_by="judges",
    ),
]  # fmt: skip


def _backward(
    q_d: Any, e_d: list[int], trits: Any, e: Any, base: int, span: int, group: int
) -> dict[str, Any]:
    scale = {"e_base": base, "e_span": span, "group_size": group, "in_features": len(trits[0])}
    return {"q_d": i8(q_d), "e_d": i8(e_d), "codes": codes_of(trits), "e": i8(e), **scale}


def _backward_ragged(**more: Any) -> dict[str, Any]:
    q_d = drawn(-127, 127, 2, 3, seed=6)
    found = _backward(q_d, [2, -9], _RAGGED, [[-3, -1], [0, -2], [-2, 0]], -3, 3, 4)
    return found | more


BACKWARD = [
    Recipe("ragged", "LIN-002 STATE-002", _WHY_RAGGED, _backward_ragged()),
    Recipe(
        "rails", "LIN-002 STATE-003", _WHY_RAILS,
        _backward([[127, -127], [-127, -127]], [0, 0], [[1] * 5, [-1] * 5], [[6, 6], [6, 6]], 0, 6, 4),
    ),
    Recipe(
        "ties-of-float32", "LIN-002 LIN-003", _WHY_TIE,
        _backward(_TIE, [0, 0, 0], [[1]] * _LONG, np.repeat(_TIE_SCALES, _GROUP)[:_LONG, None], 0, 6, 4),
        known={"dx": [0x4B800000, 0x4B800002, 0xCB800000]},
    ),
    Recipe(
        "overflow", "LIN-002 LIN-003", _WHY_OVERFLOW,
        _backward([[127], [-127], [0]], [122, 122, 122], [[1, 0]], [[26]], 26, 0, 4),
    ),
    Recipe("poisoned-row", "LIN-004", _WHY_POISON, _backward_ragged(e_d=i8([2, 127]))),
    Recipe(
        "cancelling", "LIN-003", _WHY_ZERO, _backward([[7, 7]], [0], [[1], [-1]], [[0], [0]], 0, 6, 4),
        known={"dx": [0]},
    ),
    refused(
        "refuses-in_features-9", "LIN-006", "Nine features need three bytes a row.",
        _backward_ragged(in_features=9), "in_features",
    ),
    refused(
        "refuses-e_span-7", "STATE-003", "w^ would not fit int8.", _backward_ragged(e_span=7), "e_span",
        "e_span", 7,
    ),
    refused(
        "refuses-e-above-its-band", "LIN-006 STATE-003", "An exponent above e_base + e_span.",
        _backward_ragged(e=i8([[-3, -1], [0, 1], [-2, 0]])), "e", 1, seen_by="judges",
    ),
]  # fmt: skip

GRADIENT = [
    Recipe(
        "ragged", "LIN-005", "Three tokens, two rows, seven columns: no axis fits a tile.",
        {"q_g": drawn(-127, 127, 3, 2, seed=2).astype(np.int8), "q_x": drawn(-9, 9, 3, 7).astype(np.int8)},
    ),
    Recipe(
        "rails", "LIN-005", "Sums of five products of 127 * 127, of both signs: more than int16 has.",
        {"q_g": i8([[127, -127]] * 5), "q_x": i8([[127, -127, 0]] * 5)},
        known={"gradient": [80_645, -80_645, 0, -80_645, 80_645, 0]},
    ),
    Recipe("one-token", "LIN-005", "An outer product.", {"q_g": i8([[3, -4]]), "q_x": i8([[5, 0, -6]])}),
    Recipe(
        "cancelling", "LIN-005", "Tokens that cancel: only the sum over all of them is 0.",
        {"q_g": i8([[100], [100], [-100]]), "q_x": i8([[1], [1], [2]])}, known={"gradient": [0]},
    ),
    refused(
        "refuses-other-tokens", "LIN-006", "Both operands are of the same tokens.",
        {"q_g": i8([[1], [1]]), "q_x": i8([[1]])}, "q_x",
    ),
    refused(
        "refuses-uint8", "LIN-006", "255 is not -1.", {"q_g": u8([[255]]), "q_x": i8([[1]])}, "q_g", "q_g",
        "int8",
    ),
    refused(
        "refuses-minus-128", "LIN-006 QUANT-006", "q has no -128.", {"q_g": i8([[-128]]), "q_x": i8([[1]])},
        "q_g", -128, seen_by="judges",
    ),
]  # fmt: skip
