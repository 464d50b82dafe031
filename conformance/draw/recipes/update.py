"""Vectors of `ternary_update` and `linear_update`."""

from __future__ import annotations

from typing import Any

import numpy as np

from arbitor.conformance.draw.recipes.recipe import (
    INT32_MAX,
    ONES,
    Recipe,
    codes_of,
    drawn,
    i8,
    i32,
    i64,
    refused,
    u8,
)

HOW: dict[str, Any] = {
    "e_base": -7, "e_span": 6, "group_size": 4, "rule": "scaled", "gain": 131_072, "vote_max": 16,
    "accum_threshold": 8, "scale_gain": 65_536, "e_accum_threshold": 32, "seed": 1, "tensor_id": 2,
    "step": 3,
}  # fmt: skip


def moment_of(m: int, x: int) -> int:
    """ARB-MOM-001: the integer that stands for m * 2^x."""
    return (x + 512) << 21 | m


def state(trits: Any, t_accum: Any, e: Any = None, e_accum: Any = None, moment: Any = None) -> dict[str, Any]:
    """State of these trits; a missing e is -4, a missing e_accum or moment 0, in groups of four."""
    groups = -(-len(trits[0]) // 4) if e is None else len(e[0])
    still = np.zeros((len(trits), groups), np.int8)
    return {
        "codes": codes_of(trits),
        "t_accum": i8(t_accum),
        "e": i8(e) if e is not None else still - i8(4),
        "e_accum": i8(e_accum) if e_accum is not None else still,
        "moment": i32(moment) if moment is not None else still.astype(np.int32),
    }


def update(gradient: Any, state: dict[str, Any], e_g: Any = None, **how: Any) -> dict[str, Any]:
    """A missing e_g is 0."""
    exponents = np.zeros(len(gradient), np.int8) if e_g is None else i8(e_g)
    return {"gradient": i32(gradient), "e_g": exponents, **state, **(HOW | how)}


def _example(**how: Any) -> dict[str, Any]:
    """The state and the gradient of the worked example in section 6; there r16 is a constant."""
    return update([[-300, 20, 0, 80, 6]], state([[0, -1, 1, -1, 1]], [[30, -3, 7, -31, 0]]), **how)


_SIGNS = [[5, -5, 5, -5, 0, 0, 5, -5]]
_BIG = [[INT32_MAX, 0, 0, 0, -INT32_MAX, INT32_MAX, -INT32_MAX, INT32_MAX]]
_LARGEST = {"seed": 2**64 - 1, "tensor_id": 2**28 - 1, "step": ONES}
DRAWN = state(
    drawn(-1, 1, 3, 6, seed=4),
    drawn(-31, 31, 3, 6, seed=5),
    drawn(-7, -1, 3, 2, seed=6),
    drawn(-31, 31, 3, 2),
)

UPDATE = [
    Recipe(
        "worked-example", "VOTE-001 FIRE-001 FIRE-002 SCALE-001 UPD-001",
        "The state of section 6: a fire, a fire at the rail, a silent element, a group of one.", _example(),
    ),
    Recipe(
        "worked-example-adaptive", "VOTE-005 MOM-001 MOM-002 MOM-003 FIRE-002",
        "The same by rule adaptive, the first update: the moments are those that the page prints.",
        _example(rule="adaptive", step=0), known={"moment": [1_062_707_712, 1_043_464_192]},
    ),
    Recipe(
        "sign-rule", "VOTE-002 VOTE-003", "Votes of four quarters against G; gain and vote_max play no part.",
        _example(rule="sign", gain=0, vote_max=1),
    ),
    Recipe(
        "fires-at-the-rails", "FIRE-001 FIRE-002",
        "t_accum at 127 and -127, trits at both rails: 131 must not wrap, and the accumulator stays at 127.",
        update(_SIGNS, state([[-1, 1, -1, 1, 1, 0, 0, 0]], [[-127, 127, 127, -127, 127, -127, -126, 126]]),
                rule="sign", accum_threshold=32),
    ),
    Recipe(
        "threshold-edge", "FIRE-002 FIRE-003",
        "A quarter below the threshold, at it, and at it without any vote: >= and not >, of both signs.",
        update([[-1, 1, -1, 1, 0, 0, 0, 0]],
                state([[0, 0, 0, 0, 0, 0, 0, 0]], [[28, -28, 27, -27, 32, -32, 31, -31]]), rule="sign"),
        known={"t_accum": [0, 0, 31, -31, 0, 0, 31, -31]},
    ),
    Recipe(
        "rails-keep", "FIRE-002",
        "A fire that a trit at its rail cannot follow leaves a quarter less than the threshold, with a vote "
        "and without one; the others clear.",
        update([[-1, 1, 0, 0, -1, 1, 0, 0]],
                state([[1, -1, 1, -1, -1, 1, -1, 1]], [[30, -31, 32, -127, 31, -31, 127, -32]]),
                rule="sign"),
        known={"t_accum": [31, -31, 31, -31, 0, 0, 0, 0]},
    ),
    Recipe(
        "threshold-1", "FIRE-002 FIRE-003", "Four quarters fire and three do not; at the rail three stay.",
        update([[-9, 9, 0, 0]], state([[0, 0, 0, 1]], [[0, 1, 3, 4]]), rule="sign", accum_threshold=1),
        known={"t_accum": [0, -3, 3, 3]},
    ),
    Recipe(
        "silent-group", "VOTE-003 SCALE-001 SCALE-003",
        "The second group has S = 0: no votes, but its e_accum at the threshold settles all the same.",
        update([[9, -9, 9, -9, 0, 0, 0, 0]],
                state([[1, 1, 0, -1, 1, 1, 0, -1]], [[1] * 8], [[-4, -4]], [[0, 32]])),
    ),
    Recipe(
        "largest-gradients", "VOTE-001 VOTE-004",
        "G of +-(2^31 - 1) with the largest gain: products of 55 bits, cut at vote_max.",
        update(_BIG, state([[0] * 8], [[-127, 0, 0, 0, 127, -127, 127, -127]]), gain=2**22, vote_max=32,
                accum_threshold=32),
    ),
    Recipe(
        "vote_max-3", "VOTE-001 VOTE-004", "Votes of 21 quarters and more are cut at twelve, of both signs.",
        update([[100, -100, 100, -100]], state([[0] * 4], [[0] * 4]), gain=7 << 16, vote_max=3),
        known={"t_accum": [-12, 12, -12, 12]},
    ),
    Recipe(
        "gain-0", "VOTE-001 VOTE-004", "No gain, no vote: r16 alone never reaches one.", _example(gain=0)
    ),
    Recipe(
        "scale-vote-at-the-edge", "SCALE-001",
        "|h| = S and scale_gain = r16, which is 65014 here: equal is not larger, so no vote.",
        update([[-8] * 4], state([[1] * 4], [[0] * 4]), scale_gain=65_014), known={"e_accum": [0]},
    ),
    Recipe(
        "scale-vote-over-the-edge", "SCALE-001", "One more than at the edge: a vote.",
        update([[-8] * 4], state([[1] * 4], [[0] * 4]), scale_gain=65_015), known={"e_accum": [1]},
    ),
    Recipe(
        "scale-rails", "SCALE-001 SCALE-002 SCALE-003",
        "Exponents at both ends of their band and e_accum at both rails: exponents stop, accumulators clear.",
        update([[-8] * 4 + [8] * 4, [8] * 4 + [-8] * 4],
                state([[1] * 8, [1] * 8], [[0] * 8] * 2, [[-1, -7], [-7, -1]], [[127, -127], [-127, 127]]),
                scale_gain=2**20, e_accum_threshold=127),
    ),
    Recipe(
        "scales-move", "SCALE-002 SCALE-004",
        "An exponent up, one down, with a threshold of 1; votes do not see them, nor they the new trits.",
        update([[-8] * 4 + [8] * 4], state([[1] * 8], [[31] * 4 + [-31] * 4], [[-4, -4]], [[0, 0]]),
                scale_gain=2**20, e_accum_threshold=1),
    ),
    Recipe(
        "no-scale-gain", "SCALE-003", "scale_gain 0 gives no scale votes, and the votes of trits stay.",
        _example(scale_gain=0),
    ),
    Recipe(
        "span-0", "SCALE-002 STATE-003", "No room for exponents: they stay, and e_accum is cleared.",
        update([[-8, -8, -8, -8]], state([[1] * 4], [[0] * 4], [[26]], [[31]]), e_base=26, e_span=0,
                scale_gain=2**20),
    ),
    Recipe(
        "one-group-of-1024", "VOTE-001 SCALE-001 STATE-005",
        "The largest group, of which six elements are there: the mean is over those.",
        update([[100, -50, 3, 0, 7, -1]], state([[1, 0, -1, 1, 0, 1]], [[0] * 6], [[-4]], [[3]]),
                group_size=1024),
    ),
    Recipe(
        "logical-indices", "RNG-003 RNG-005 UPD-001",
        "Three ragged rows: n is o*I + i for votes and o*groups + group for scales, all numbers the largest.",
        update(drawn(-2000, 2000, 3, 6, seed=7), DRAWN, scale_gain=2**17, **_LARGEST),
    ),
    refused("refuses-rule", "VOTE-001 VOTE-002 LIN-006", "A rule that does not exist.",
            _example(rule="nearest"), "rule", "rule", "nearest"),
    refused("refuses-vote_max-0", "VOTE-004", "At least one.", _example(vote_max=0), "vote_max", "vote_max",
            0),
    refused("refuses-accum_threshold-33", "FIRE-003", "A rail would leave 131 quarters, which is no int8.",
            _example(accum_threshold=33), "accum_threshold", "accum_threshold", 33),
    refused("refuses-vote_max-33", "VOTE-004", "At most 32.", _example(vote_max=33), "vote_max", "vote_max",
            33),
    refused("refuses-gain", "VOTE-004", "A quarter of what version 1 allowed.", _example(gain=2**22 + 1),
            "gain", "gain", 2**22 + 1),
    refused("refuses-moment-minus-1", "MOM-001 STATE-003 LIN-006", "A moment is 0 or more.",
            _example() | {"moment": i32([[0, -1]])}, "moment", -1, seen_by="judges"),
    refused("refuses-e_g-126", "UPD-004 LIN-006", "No quantiser gives it, nor 3 more than it gives.",
            _example() | {"e_g": i8([126])}, "e_g", 126, seen_by="judges"),
    refused("refuses-e_g-of-two-rows", "UPD-004 LIN-006", "One exponent a row.",
            _example() | {"e_g": i8([0, 0])}, "e_g", "e_g"),
    refused("refuses-int64", "LIN-006 UPD-001", "The gradient is int32, and no state has changed.",
            _example() | {"gradient": i64([[1, 2, 3, 4, 5]])}, "gradient", "gradient", "int32"),
    refused("refuses-t_accum-minus-128", "STATE-003 LIN-006", "-128 is illegal in an accumulator.",
            _example() | {"t_accum": i8([[0, 0, 0, 0, -128]])}, "t_accum", -128, seen_by="judges"),
    refused("refuses-e_accum-minus-128", "STATE-003 LIN-006", "-128 is illegal in an accumulator.",
            _example() | {"e_accum": i8([[0, -128]])}, "e_accum", -128, seen_by="judges"),
    refused("refuses-code-3", "PACK-003 LIN-006", "No trit has code 3, and nothing has changed.",
            _example() | {"codes": u8([[0xD5, 85]])}, "codes", 0xD5, seen_by="judges"),
]  # fmt: skip


def _linear(q_g: Any, q_x: Any, state: dict[str, Any], **how: Any) -> dict[str, Any]:
    """With exponents of 0, -1, -2, ..."""
    e_g = -np.arange(len(q_g[0]), dtype=np.int8)
    return {"q_g": i8(q_g), "e_g": e_g, "q_x": i8(q_x), **state, **(HOW | how)}


_SMALL = _linear(drawn(-127, 127, 2, 3, seed=2), drawn(-127, 127, 2, 6, seed=3), DRAWN)

LINEAR = [
    Recipe("ragged", "UPD-002 LIN-005", "Two tokens, three rows, six columns, everything drawn.", _SMALL),
    Recipe("sign-rule", "UPD-002 VOTE-002", "The same by rule sign.", _SMALL | {"rule": "sign"}),
    Recipe("adaptive-rule", "UPD-002 UPD-004 VOTE-005", "The same by rule adaptive, the first update.",
           _SMALL | {"rule": "adaptive", "step": 0}),
    Recipe(
        "adaptive-rule-later", "UPD-002 UPD-004 VOTE-005 MOM-003",
        "By rule adaptive with a moment about the squares of the products.",
        _SMALL | {"rule": "adaptive", "step": 500, "moment": i32([[moment_of(1_234_567, 5)] * 2,
            [moment_of(1_765_432, 3)] * 2, [moment_of(2_000_001, 0), moment_of(1_048_577, 1)]])},
    ),
    Recipe(
        "rails", "UPD-002 FIRE-002",
        "Gradients of five times 127 * 127 on accumulators at their rails: an int16 sum would wrap.",
        _linear([[127, -127]] * 5, [[127, -127, 0, 127, -127]] * 5,
                state([[1, -1, 0, 0, 1], [1, -1, 0, -1, 0]], [[127, -127, 31, -31, 0]] * 2), vote_max=32,
                gain=2**21, accum_threshold=32),
    ),
    Recipe(
        "cancelling", "UPD-002 VOTE-003", "Tokens that cancel are a silent group: the votes are of the sum.",
        _linear([[50], [50]], [[1, 2, 3, 4], [-1, -2, -3, -4]], state([[1, 0, -1, 1]], [[5, 32, -32, -5]])),
        known={"counts": [0, 2, 1, 0, 0], "t_accum": [5, 0, -31, -5]},
    ),
    Recipe(
        "scales-move", "UPD-002 SCALE-002", "Exponents up and down from the operands.",
        _linear([[-8]], [[1] * 4 + [-1] * 4], state([[1] * 8], [[0] * 8]), scale_gain=2**20,
                e_accum_threshold=1),
    ),
    refused("refuses-int32", "LIN-006", "Operands are int8.", _SMALL | {"q_x": i32([[1] * 6] * 2)}, "q_x",
            "q_x", "int8"),
    refused("refuses-tensor_id", "STATE-005", "The stream would leave 32 bits.",
            _SMALL | {"tensor_id": 2**28}, "tensor_id", "tensor_id", 2**28),
    refused("refuses-minus-128", "QUANT-006 LIN-006", "q has no -128.",
            _SMALL | {"q_g": i8([[0, 0, 0], [0, 0, -128]])}, "q_g", -128, seen_by="judges"),
]  # fmt: skip
