"""Vectors of `ternary_update` by rule `adaptive`: moments, what they become, and the votes that they make."""

from __future__ import annotations

from typing import Any

from arbitor.conformance.draw.recipes.recipe import INT32_MAX, Recipe, drawn, i32
from arbitor.conformance.draw.recipes.update import DRAWN, moment_of, state, update


def _adaptive(gradient: Any, e_g: int = 0, moment: int = 0, **how: Any) -> dict[str, Any]:
    """One group by rule `adaptive`, all of it 0 but the gradient and the moment."""
    zeros = [[0] * len(gradient)]
    still = state(zeros, zeros, [[-4]], [[0]], [[moment]])
    return update([gradient], still, [e_g], **({"group_size": 8, "rule": "adaptive"} | how))


_SPREAD = [-900, 411, 96, -40, 7, 1, 0, -2]
# mean square of _SPREAD about 2^17: with 21 bits of m that is x = -3
_NEAR = moment_of(1_300_000, -3)
UPDATE = [
    Recipe(
        "moment-second-update",
        "MOM-003 VOTE-005",
        "Both squares count for a half.",
        _adaptive(_SPREAD, moment=_NEAR, step=1),
    ),
    Recipe(
        "moment-127th-update",
        "MOM-003",
        "c = 127: not yet the whole memory.",
        _adaptive(_SPREAD, moment=_NEAR, step=126),
    ),
    Recipe(
        "moment-128th-update",
        "MOM-003 VOTE-005",
        "c = 128, the whole memory.",
        _adaptive(_SPREAD, moment=_NEAR, step=127),
    ),
    Recipe(
        "moment-129th-update",
        "MOM-003",
        "c stays at 128: all as before but the random bits.",
        _adaptive(_SPREAD, moment=_NEAR, step=128),
    ),
    Recipe(
        "moment-odd",
        "VOTE-005",
        "y is odd: the root is of twice the mantissa.",
        _adaptive(_SPREAD, moment=moment_of(2_000_000, -2), step=2**32 - 1),
    ),
    Recipe(
        "moment-without-gradient",
        "MOM-003 VOTE-003",
        "S = 0 and c = 2: the moment halves, and nothing votes.",
        _adaptive([0] * 4, moment=moment_of(2**20 + 12_345, -7), step=1),
        known={"moment": [moment_of(2**20 + 12_345, -8)], "counts": [0] * 5},
    ),
    Recipe(
        "moment-ends-at-0",
        "MOM-003 VOTE-003",
        "The lowest exponent: half of it would be x = -513, which is 0; so is all at the first update.",
        update(
            [[0] * 8], state([[0] * 8], [[0] * 8], moment=[[2**20, 2**21 - 1]]), step=1, rule="adaptive"
        ),
        known={"moment": [0, 0], "counts": [0] * 5},
    ),
    Recipe(
        "moment-not-normalised",
        "MOM-001 MOM-003",
        "An m of 5 bits, one of 0 with an exponent, which is 0: legal, and of 21 bits or 0 behind it.",
        update(
            [[0] * 8],
            state([[0] * 8], [[0] * 8], moment=[[moment_of(21, 40), moment_of(0, 300)]]),
            step=1,
            rule="adaptive",
        ),
        known={"moment": [moment_of(21 << 16, 23), 0]},
    ),
    Recipe(
        "moment-far-larger",
        "MOM-003 VOTE-005",
        "The square of this update is shifted out: no vote but what rounds up.",
        _adaptive(_SPREAD, moment=moment_of(2**21 - 1, 511), step=127),
    ),
    Recipe(
        "moment-far-smaller",
        "MOM-003 VOTE-005",
        "The moment is shifted out: what is left is a / 128.",
        _adaptive(_SPREAD, moment=moment_of(2**21 - 1, -512), step=127),
    ),
    Recipe(
        "no-moment-no-vote",
        "MOM-003 VOTE-005",
        "A first update beside a moment that is left over and so large that the square of this one is "
        "shifted out: the moment is 0, and of that there is no vote.",
        _adaptive(_SPREAD, moment=moment_of(2**20, 100), step=0),
        known={"moment": [0], "counts": [0] * 5},
    ),
    Recipe(
        "moment-e_g-lowest",
        "UPD-004 VOTE-005 MOM-002",
        "Exponents of -100, the moment on that scale.",
        _adaptive(_SPREAD, e_g=-100, moment=moment_of(1_300_000, -203), step=1),
    ),
    Recipe(
        "moment-e_g-highest",
        "UPD-004 VOTE-005 MOM-002",
        "Exponents of 125, the moment on that scale: the votes are those of e_g = -100.",
        _adaptive(_SPREAD, e_g=125, moment=moment_of(1_300_000, 247), step=1),
    ),
    Recipe(
        "moment-shift-0",
        "VOTE-005",
        "A moment far below the square: the shift stops at 0.",
        _adaptive(
            [2**31 - 1, -1, 0, 1],
            e_g=125,
            moment=moment_of(2**20, -512),
            step=2**32 - 1,
            gain=2**22,
            vote_max=32,
        ),
    ),
    Recipe(
        "moment-shift-62",
        "VOTE-005",
        "A moment far above the square: the shift stops at 62.",
        _adaptive(
            [2**31 - 1, -(2**31), 0, 1], e_g=-100, moment=moment_of(2**21 - 1, 511), step=2**31, gain=2**22
        ),
    ),
    Recipe(
        "moment-squares",
        "MOM-002",
        "A first update of groups whose S has 15 bits, 16, and as many as there are: squares of G, of G / 2 "
        "with halves going up, and of what 2^31 leaves.",
        update(
            [[32_767, 0, 0, 0, 32_768, -1, 0, 3, INT32_MAX, -INT32_MAX, INT32_MAX, -(2**31)]],
            state([[0] * 12], [[0] * 12], moment=[[0, 0, 0]]),
            rule="adaptive",
            step=0,
        ),
    ),
    Recipe(
        "moment-ragged",
        "MOM-002 VOTE-005",
        "The last group has two elements, and divides by two.",
        update(
            [[50, -50, 50, -50, 50, -50]], state([[0] * 6], [[0] * 6]), rule="adaptive", step=0, gain=65_536
        ),
    ),
    Recipe(
        "moment-rows",
        "UPD-004 RNG-003 VOTE-005",
        "Three ragged rows, each with an exponent of its own.",
        update(
            drawn(-2000, 2000, 3, 6, seed=7),
            DRAWN
            | {
                "moment": i32(
                    [
                        [moment_of(1_500_000, 0), moment_of(1_111_111, 1)],
                        [moment_of(1_050_000, -6), 0],
                        [moment_of(2_000_000, 9), moment_of(1_200_000, 9)],
                    ]
                )
            },
            [0, -3, 5],
            rule="adaptive",
            step=40,
        ),
    ),
]  # fmt: skip
