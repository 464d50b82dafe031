"""Vectors of the three operations of an embedding table."""

from __future__ import annotations

from typing import Any

import numpy as np

from arbitor.conformance.draw.recipes.recipe import (
    INT32_MAX,
    Recipe,
    codes_of,
    drawn,
    i8,
    i16,
    i32,
    i64,
    refused,
    u8,
)
from arbitor.conformance.draw.recipes.update import HOW, moment_of

_TRITS = drawn(-1, 1, 4, 6, seed=4)


def _rows(tokens: list[int], **more: Any) -> dict[str, Any]:
    table = {"codes": codes_of(_TRITS), "e": i8([[-7, -1], [0, 5], [-26, 26], [32, -4]])}
    return {"tokens": i64(tokens), **table, "group_size": 4, "columns": 6} | more


FORWARD = [
    Recipe("every-row", "EMB-001", "Exponents from -26 to 32, a ragged last group.", _rows([0, 1, 2, 3])),
    Recipe("repeated", "EMB-001", "A token may come again, in any order.", _rows([3, 0, 3, 3])),
    Recipe(
        "zeros", "EMB-001", "A zero trit gives +0.0, whatever its exponent.",
        _rows([0], codes=u8([[85, 85]] * 4)), known={"y": [0] * 6},
    ),
    Recipe(
        "one-column", "EMB-001", "One element a row, and three padding fields.",
        _rows([1, 0], codes=codes_of([[1], [-1]]), e=i8([[2], [-2]]), columns=1, group_size=1024),
        known={"y": [0xBE800000, 0x40800000]},
    ),
    refused("refuses-a-token-too-large", "EMB-001", "The table has four rows.", _rows([0, 4]), "tokens", 1, 4,
            seen_by="cpu"),
    refused("refuses-a-negative-token", "EMB-001", "-1 is not the last row.", _rows([-1]), "tokens", 0, -1,
            seen_by="cpu"),
    refused("refuses-int32", "LIN-006", "Tokens are int64.", _rows([0]) | {"tokens": i32([0])}, "tokens",
            "tokens", "int64"),
    refused("refuses-code-3", "LIN-006 PACK-003", "No weight has code 3.",
            _rows([0], codes=u8([[85, 85]] * 3 + [[0xD5, 85]])), "codes", 0xD5, seen_by="judges"),
]  # fmt: skip


def _gradient(tokens: list[int], q: Any, rows: int) -> dict[str, Any]:
    return {"tokens": i64(tokens), "q": i8(q), "rows": rows}


GRADIENT = [
    Recipe("ordinary", "EMB-003", "Repeated tokens add up, absent rows are 0.",
           _gradient([2, 0, 2, 2], drawn(-127, 127, 4, 5, seed=3), 4)),
    Recipe("rails", "EMB-003", "300 times 127 in one place: more than int16 has.",
           _gradient([1] * 300, [[127, -127]] * 300, 2), known={"gradient": [0, 0, 38_100, -38_100]}),
    Recipe("cancelling", "EMB-003", "One token's rows cancel.", _gradient([0, 0], [[9, -9], [-9, 9]], 1),
           known={"gradient": [0, 0]}),
    Recipe("one", "EMB-003", "The smallest table.", _gradient([0], [[-127]], 1)),
    refused("refuses-a-token-too-large", "EMB-001 EMB-003", "It would be written behind the table.",
            _gradient([0, 3], [[1], [1]], 3), "tokens", 1, 3, seen_by="cpu"),
    refused("refuses-a-negative-token", "EMB-001 EMB-003", "It would be written before the table.",
            _gradient([0, -1], [[1], [1]], 3), "tokens", 1, -1, seen_by="cpu"),
    refused("refuses-rows-0", "STATE-005", "Every extent is at least 1.", _gradient([0], [[1]], 0), "rows",
            "rows", 0),
    refused("refuses-missing-rows-of-q", "LIN-006", "One row of q a token.", _gradient([0, 0], [[1]], 1),
            "q"),
]  # fmt: skip


def _update(tokens: list[int], q: Any = None, **more: Any) -> dict[str, Any]:
    """Four rows of six columns, state drawn; `more` replaces arguments."""
    found = {
        "tokens": i64(tokens),
        "q": i8(drawn(-127, 127, len(tokens), 6, seed=2) if q is None else q),
        "e_g": i8([-9]),
        "codes": codes_of(_TRITS),
        "t_accum": i8(drawn(-31, 31, 4, 6, seed=5)),
        "e": i8(drawn(-7, -1, 4, 2, seed=6)),
        "corr_accum": i16(drawn(-31, 31, 4, 2)),
        "moment": i32([[moment_of(m, -27) for m in (1_600_000, 1_100_000)]] * 4),
        "step_counter": i32([0, 7, INT32_MAX - 1, INT32_MAX]),
    }
    return found | HOW | more


_RAILS = i8([[127, -127, 127, -127, 127, -127]] * 4)

UPDATE = [
    Recipe("ordinary", "EMB-004 EMB-005", "Two rows of four, one token twice: the others stay in every byte.",
           _update([2, 0, 2])),
    Recipe("sign-rule", "EMB-004 VOTE-002", "The same by rule sign.", _update([2, 0, 2], rule="sign")),
    Recipe("adaptive-rule", "EMB-004 EMB-005 VOTE-005 MOM-003",
           "By rule adaptive: a row's first update and its 128th, whatever the step of the table is.",
           _update([2, 0, 2], rule="adaptive", step_counter=i32([0, 7, 127, INT32_MAX]))),
    Recipe("adaptive-counter-at-its-end", "EMB-004 VOTE-005 MOM-003",
           "A row that has had 2^31 - 1 updates: one more stays in int64, and c is 128.",
           _update([3, 1], rule="adaptive", e_g=i8([-8]))),
    Recipe("adaptive-cancelling", "EMB-004 MOM-003",
           "A row that occurs with a gradient of 0 has a square of 0: its moment goes down.",
           _update([1, 1], [[5] * 6, [-5] * 6], rule="adaptive")),
    Recipe("every-row", "EMB-004 RNG-003", "n is over the whole table; tokens come in any order.",
           _update([3, 1, 0, 2])),
    Recipe("counters", "EMB-004", "One an update, however often the token comes; it stays at 2^31 - 1.",
           _update([1, 1, 1, 2, 3]), known={"step_counter": [0, 8, INT32_MAX, INT32_MAX]}),
    Recipe("rails", "EMB-004 FIRE-002 SCALE-002",
           "t_accum at +-127, corr_accum at +-32767: nothing wraps, everything fires; at rails it stays.",
           _update([0, 1], [[127] * 6, [-127] * 6], t_accum=_RAILS, corr_accum=i16([[32_767, -32_767]] * 4),
                   scale_gain=2**20)),
    Recipe("cancelling", "EMB-003 EMB-004 FIRE-003",
           "A row that occurs with a gradient of 0 has no votes, and settles and counts all the same.",
           _update([1, 1], [[5] * 6, [-5] * 6], t_accum=i8([[0] * 6, [32] * 6, [0] * 6, [32] * 6]))),
    refused("refuses-a-token-too-large", "EMB-001", "The table has four rows, and no state has changed.",
            _update([0, 4]), "tokens", 1, 4, seen_by="cpu"),
    refused("refuses-e_accum_threshold-0", "SCALE-003", "Everything would fire.",
            _update([0], e_accum_threshold=0), "e_accum_threshold", "e_accum_threshold", 0),
    refused("refuses-int8", "STATE-004 LIN-006", "corr_accum is int16.",
            _update([0], corr_accum=np.zeros((4, 2), np.int8)), "corr_accum", "corr_accum", "int16"),
    refused("refuses-corr_accum-minus-32768", "STATE-004 LIN-006", "The lowest int16 is illegal.",
            _update([0], corr_accum=i16([[0, 0]] * 3 + [[0, -32_768]])), "corr_accum", -32_768,
            seen_by="judges"),
    refused("refuses-a-negative-moment", "MOM-001 STATE-004 LIN-006", "A moment is 0 or more, of any row.",
            _update([0], moment=i32([[0, 0]] * 3 + [[0, -5]])), "moment", -5, seen_by="judges"),
    refused("refuses-two-exponents", "UPD-004 LIN-006", "The gradient of a table has one exponent.",
            _update([0, 1], e_g=i8([0, 0])), "e_g", "e_g"),
    refused("refuses-a-negative-counter", "STATE-004 LIN-006", "Counters are 0 or more.",
            _update([0], step_counter=i32([0, 0, -1, 0])), "step_counter", -1, seen_by="judges"),
]  # fmt: skip
