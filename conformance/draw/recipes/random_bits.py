"""Vectors of `philox` and `initialise`."""

from __future__ import annotations

from typing import Any

from arbitor.conformance.draw.recipes.recipe import ONES, Recipe, refused


def _words(first: int, count: int, seed: int = 7, step: int = 3, stream: int = 19) -> dict[str, Any]:
    return {"first": first, "count": count, "seed": seed, "step": step, "stream": stream}


def _initial(rows: int, columns: int, seed: int = 0, tensor_id: int = 0) -> dict[str, Any]:
    return {"out_features": rows, "in_features": columns, "seed": seed, "tensor_id": tensor_id}


PHILOX = [
    Recipe(
        "random123-zero", "RNG-001 RNG-002",
        "Random123's known answer for a counter and a key of zeros; its other two need an index over 2^62.",
        _words(0, 4, 0, 0, 0), known={"words": [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]},
    ),
    Recipe(
        "digits-of-pi", "RNG-001 RNG-002",
        "Key, step and stream of Random123's third known answer, on counters that an index can reach.",
        _words(0x243F6A88, 8, 0xA4093822 + (0x299F31D0 << 32), 0x13198A2E, 0x03707344),
    ),
    Recipe("inside-a-block", "RNG-002 RNG-003", "Starts at word 3 and ends at word 0.", _words(3, 6)),
    Recipe("one-word", "RNG-002", "A call shorter than a block.", _words(6, 1)),
    Recipe(
        "carry", "RNG-002", "n >> 2 passes 2^32: the second word of the counter begins to count.",
        _words(2**34 - 5, 10),
    ),
    Recipe(
        "largest", "RNG-002 STATE-005", "Every argument at its largest: unsigned, 64 bits of seed and index.",
        _words(2**62, 5, 2**64 - 1, ONES, ONES),
    ),
    Recipe("seed-above-32-bits", "RNG-002", "Only the upper half of the key.", _words(0, 4, 2**32, 0, 0)),
    refused("refuses-count-0", "STATE-005", "Nothing is no result.", _words(0, 0), "count", "count", 0),
    refused(
        "refuses-first", "STATE-005", "One more than the largest index.", _words(2**62 + 1, 1), "first",
        "first", 2**62 + 1,
    ),
    refused(
        "refuses-seed", "STATE-005", "A seed of 65 bits.", _words(0, 1, 2**64), "seed", "seed", 2**64
    ),
    refused("refuses-step", "STATE-005", "A step below 0.", _words(0, 1, 0, -1), "step", "step", -1),
]  # fmt: skip

INITIALISE = [
    Recipe("one", "INIT-001", "One trit and three padding fields.", _initial(1, 1)),
    Recipe(
        "ragged", "INIT-001 PACK-002",
        "n counts weights and not bytes: a row of five does not start at a multiple of four.",
        _initial(4, 5, 11, 3),
    ),
    Recipe("wide", "INIT-001", "Whole bytes.", _initial(3, 64, 2**32 + 5, 1)),
    Recipe(
        "largest", "INIT-001 STATE-005", "The largest seed and number of a tensor: the stream is 2^32 - 16.",
        _initial(2, 9, 2**64 - 1, 2**28 - 1),
    ),
    refused(
        "refuses-no-rows", "STATE-005", "Every extent is at least 1.", _initial(0, 4), "out_features",
        "out_features", 0,
    ),
    refused(
        "refuses-tensor-id", "STATE-005", "The stream would leave 32 bits.", _initial(1, 4, 0, 2**28),
        "tensor_id", "tensor_id", 2**28,
    ),
]  # fmt: skip
