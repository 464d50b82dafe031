"""Of two illegal elements the first in row-major order is named, wherever the tiles of a kernel begin.

A matrix of several tiles each way (those of 16 rows by 128 bytes that a GPU has, and those of 1,024 by 256 of
Triton's interpreter) has its elements in two of them. The numbers of the first are in no other number here.
"""

from __future__ import annotations

from typing import cast

import pytest
import torch

from arbitor.conformance.judge.target import Target
from arbitor.conformance.operations.common import HOW, Test
from arbitor.conformance.operations.refused.device_refusals import refuses_on_device
from arbitor.kernels.operations import OPERATIONS

ROWS, BYTES = 1100, 280
TOKENS = 5000
# the first, and another: in its own tile, but a later row and an earlier column; in a tile before it, a later
# row; in a tile behind it; in its row
PLACES = [
    ((305, 107), (307, 1)),
    ((307, 276), (309, 0)),
    ((307, 276), (1051, 1)),
    ((505, 108), (1051, 276)),
    ((1033, 276), (1051, 1)),
    ((1033, 107), (1033, 276)),
]
# name of the array, value of a legal element, an illegal one and another, elements of a byte
MATRICES = {
    "pack": ("trits", 0, 99, -99, 4),
    "pack_dense": ("trits", 0, 99, -99, 5),
    "unpack": ("codes", 0x55, 0xD6, 0x99 | 0x03, 4),
    "unpack_dense": ("dense", 121, 249, 250, 5),
}


def first_of_two(operation: str, *clauses: str) -> Test:
    """Of two illegal elements the first is named, with its value, wherever their tiles are."""
    name, legal, one, other, fields = MATRICES[operation]
    width = fields if name == "trits" else 1

    @pytest.mark.clause(*clauses, "ARB-STATE-006")
    @pytest.mark.parametrize(("first", "second"), PLACES, ids=str)
    def test(target: Target, first: tuple[int, int], second: tuple[int, int]) -> None:
        if target.backend.arrays == "lists":
            pytest.skip("a million elements in lists of Python integers take seconds each")
        dtype = torch.int8 if name == "trits" else torch.uint8
        array = torch.full((ROWS, BYTES * width), legal, dtype=dtype)
        values = (one, other) if second[1] < 2 else (other, one)  # neither is always the first
        for (row, byte), value in zip((first, second), values, strict=True):
            array[row, byte * width] = value
        columns = {} if name == "trits" else {"columns": BYTES * fields}
        names = (first[0], first[1] * width, values[0])
        target.refuses(operation, {name: array} | columns, ValueError, *names)

    return cast(Test, test)


def first_of_two_tokens(operation: str) -> Test:
    """Of two tokens outside the table the first is named, with its value; a GPU's assertion can name
    nothing."""

    @pytest.mark.clause("ARB-EMB-001", "ARB-STATE-006")
    @pytest.mark.parametrize("values", [(-7, 9999), (9999, -7)], ids=str)
    @pytest.mark.parametrize(("first", "second"), [(4321, 4322), (17, 4990), (4322, 4990)])
    def test(target: Target, first: int, second: int, values: tuple[int, int]) -> None:
        tokens = torch.zeros(TOKENS, dtype=torch.int64)
        tokens[first], tokens[second] = values
        rows, columns = 3, 4
        state = {
            "codes": torch.full((rows, 1), 0x55, dtype=torch.uint8),
            "t_accum": torch.zeros(rows, columns, dtype=torch.int8),
            "e": torch.zeros(rows, 1, dtype=torch.int8),
            "corr_accum": torch.zeros(rows, 1, dtype=torch.int16),
            "e_g": torch.zeros(1, dtype=torch.int8),
            "moment": torch.zeros(rows, 1, dtype=torch.int32),
            "step_counter": torch.zeros(rows, dtype=torch.int32),
        }
        known = {"tokens": tokens, "q": torch.ones(TOKENS, columns, dtype=torch.int8), "rows": rows}
        known |= state | HOW | {"columns": columns}
        arguments = {name: known[name] for name in OPERATIONS[operation].arguments}
        if target.device == "cpu":
            target.refuses(operation, arguments, ValueError, first, values[0])
        else:
            refuses_on_device(target, operation, arguments, first, values[0])

    return cast(Test, test)
