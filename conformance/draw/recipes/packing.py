"""Vectors of `pack`, `unpack`, `pack_dense`, `unpack_dense`."""

from __future__ import annotations

from itertools import product

import numpy as np

from arbitor.conformance.draw.arrays import packed
from arbitor.conformance.draw.recipes.recipe import Recipe, drawn, i8, i16, refused, u8

_ONE_EACH = i8([[sign * (i == k) for i in range(9)] for k in range(9) for sign in (-1, 1)])
_LEGAL = u8([[a + 4 * b + 16 * c + 64 * d] for d, c, b, a in product(range(3), repeat=4)])
_RAGGED = drawn(-1, 1, 3, 7, seed=5)

PACK = [
    Recipe(
        "example", "PACK-001 PACK-002", "The bytes printed in section 2: a swapped order of fields shows.",
        {"trits": i8([[-1, 0, 1, 1, 0]])}, known={"codes": [164, 85]},
    ),
    Recipe(
        "one-trit-each", "PACK-001 PACK-002",
        "One trit of each sign in each of nine columns: every field of two bytes, and the first of a third.",
        {"trits": _ONE_EACH},
    ),
    Recipe("one-column", "PACK-002", "Three padding fields a byte.", {"trits": i8([[1], [-1], [0]])}),
    Recipe(
        "seven-columns", "PACK-001 PACK-002", "Each row starts a new byte, with one padding field before it.",
        {"trits": _RAGGED.astype(np.int8)},
    ),
    Recipe("whole-bytes", "PACK-001", "No padding at all.", {"trits": i8([[1] * 8, [-1] * 8])}),
    refused(
        "refuses-2", "PACK-004", "2 would become the illegal code 3.",
        {"trits": i8([[0, 0, 0, 0], [0, 1, 0, 2]])}, "trits", 1, 3, 2,
    ),
    refused(
        "refuses-minus-128", "PACK-004", "The lowest int8, in the last column before the padding.",
        {"trits": i8([[0, 1, -1, 0, -128]])}, "trits", 0, 4, -128,
    ),
    refused(
        "refuses-int16", "STATE-006 LIN-006", "Another dtype is refused and not converted.",
        {"trits": i16([[0, 1]])}, "trits", "trits", "int8",
    ),
]  # fmt: skip

UNPACK = [
    Recipe(
        "example", "PACK-001", "The bytes printed in section 2.", {"codes": u8([[164, 85]]), "columns": 5},
        known={"trits": [-1, 0, 1, 1, 0]},
    ),
    Recipe("all-legal-bytes", "PACK-001", "All 81 legal bytes.", {"codes": _LEGAL, "columns": 4}),
    Recipe(
        "seven-columns", "PACK-001 PACK-002", "The last byte of each row has one padding field.",
        {"codes": packed(_RAGGED), "columns": 7},
    ),
    refused(
        "refuses-code-3-first", "PACK-003", "Code 3 in the lowest field of the second byte.",
        {"codes": u8([[85, 85], [85, 0x57]]), "columns": 8}, "codes", 1, 0x57,
    ),
    refused(
        "refuses-code-3-last", "PACK-003", "Code 3 in the highest field: a signed shift would read it as -1.",
        {"codes": u8([[0xD5, 85]]), "columns": 8}, "codes", 0, 0xD5,
    ),
    refused(
        "refuses-code-3-in-padding", "PACK-003", "Padding is looked at too.",
        {"codes": u8([[85, 0xD5]]), "columns": 7}, "codes", 0, 1, 0xD5,
    ),
    refused(
        "refuses-padding-of-code-0", "PACK-002 PACK-003", "A legal code, but not that of padding.",
        {"codes": u8([[85, 0x15]]), "columns": 7}, "codes", 0, 1, 0x15,
    ),
    refused(
        "refuses-columns-0", "STATE-005", "Every extent is at least 1.", {"codes": u8([[85]]), "columns": 0},
        "columns", "columns", 0,
    ),
    refused(
        "refuses-missing-bytes", "LIN-006", "Nine columns need three bytes.",
        {"codes": u8([[85, 85]]), "columns": 9}, "codes", "codes",
    ),
    refused(
        "refuses-int8", "STATE-006 LIN-006", "Bytes are unsigned.", {"codes": i8([[85]]), "columns": 4},
        "codes", "codes", "uint8",
    ),
]  # fmt: skip

_DENSE = np.arange(243).astype(np.uint8).reshape(243, 1)

PACK_DENSE = [
    Recipe(
        "lowest-and-highest", "PACK-005", "The bytes 0, 242 and, for zeros, 121.",
        {"trits": i8([[-1] * 5, [1] * 5, [0] * 5])}, known={"dense": [0, 242, 121]},
    ),
    Recipe(
        "one-trit-each", "PACK-005", "Every place of base 3 alone, and across two bytes.",
        {"trits": _ONE_EACH},
    ),
    Recipe("one-column", "PACK-005", "Four padding places.", {"trits": i8([[1], [-1], [0]])}),
    Recipe(
        "seven-columns", "PACK-005", "Ragged rows of two bytes.", {"trits": _RAGGED.astype(np.int8)}
    ),
    refused(
        "refuses-minus-2", "PACK-004", "-2 would borrow from the next place.",
        {"trits": i8([[0, 1, -2, 0, 1]])}, "trits", 0, 2, -2,
    ),
    refused(
        "refuses-uint8", "STATE-006 LIN-006", "Trits are signed.", {"trits": u8([[0, 1]])}, "trits",
        "trits", "int8",
    ),
]  # fmt: skip

UNPACK_DENSE = [
    Recipe("all-legal-bytes", "PACK-005", "All 243 legal bytes.", {"dense": _DENSE, "columns": 5}),
    Recipe(
        "seven-columns", "PACK-005 PACK-007", "What pack_dense makes of seven columns, back.",
        {"dense": packed(_RAGGED, 5, 3), "columns": 7},
        known={"trits": _RAGGED.reshape(-1).tolist()},
    ),
    refused(
        "refuses-243", "PACK-006", "The lowest illegal byte.", {"dense": u8([[121], [243]]), "columns": 5},
        "dense", 1, 243,
    ),
    refused(
        "refuses-255", "PACK-006", "The highest illegal byte.", {"dense": u8([[121, 255]]), "columns": 10},
        "dense", 0, 1, 255,
    ),
    refused(
        "refuses-padding-of-code-2", "PACK-006", "Padding is code 1 here too.",
        {"dense": u8([[202]]), "columns": 4}, "dense", 0, 202,
    ),
    refused(
        "refuses-surplus-bytes", "LIN-006", "Five columns are one byte.",
        {"dense": u8([[121, 121]]), "columns": 5}, "dense", "dense",
    ),
]  # fmt: skip
