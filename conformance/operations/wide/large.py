"""Large calls whose arguments are made on the device, and their comparison, element by element in pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

import torch

from arbitor.conformance.judge.compare import difference
from arbitor.conformance.judge.target import Arguments, Arrays, Target, call
from arbitor.conformance.operations.common import HOW
from arbitor.kernels.checks import DTYPES, extent
from arbitor.kernels.operations import EXTENT_OF, OPERATIONS, Array
from arbitor.kernels.registry import Backend

POISONED = 127  # the exponent of a row that is not finite; one poisons every column
PIECE = 1 << 24  # elements that are compared at a time
Extents = Mapping[str, int]

# lowest and highest of what arrays hold, by name; others are made below
BETWEEN: dict[str, tuple[int, int]] = {
    "trits": (-1, 1), "q": (-127, 127), "q_x": (-127, 127), "q_d": (-127, 127), "q_g": (-127, 127),
    "e_x": (-12, 12), "e_d": (-12, 12), "gradient": (-(10**6), 10**6), "t_accum": (-19, 19),
    "e_g": (-3, 3), "e_accum": (-2, 2), "corr_accum": (-2, 2), "step_counter": (0, 1000),
    "cos": (-(2**14), 2**14), "sin": (-(2**14), 2**14), "k": (-127, 127), "v": (-127, 127),
    "top": (0, 20_000), "total": (16_383, 100_000), "e": (HOW["e_base"], HOW["e_base"] + HOW["e_span"]),
    "words": (-(2**62), 2**62), "first": (-(2**62), 2**62),
}  # fmt: skip
# most elements vote, and many fire; exponents move
BUSY = HOW | {
    "rule": "scaled", "gain": 3 << 16, "accum_threshold": 5, "scale_gain": 1 << 18, "e_accum_threshold": 3,
    "seed": 2**40 + 7, "step": 5, "tensor_id": 3, "stream": 50, "first_row": 3, "first": 2**34 - 21,
    "window": 5,
}  # fmt: skip


def extents_of(rows: int, columns: int, tokens: int, group_size: int) -> dict[str, int]:
    """The letters of the table of operations for a matrix [rows, columns], or for so many sequences."""
    half = min(max(columns // 32, 1), 128 - columns % 2)
    sequences = {"B": rows, **dict.fromkeys("PAS", 8), "N": 2, "H": half, "D": 2 * half}
    return sequences | {
        "R": rows, "O": rows, "V": rows, "C": columns, "I": columns, "T": tokens, "g": group_size,
        "count": rows * columns,
    }  # fmt: skip


def elements(operation: str, extents: Extents) -> int:
    """Number of elements that a call writes: of its results and of its arguments in place."""
    table = OPERATIONS[operation]
    written = [*table.results, *(array for array in table.arrays if array.in_place)]
    return sum(prod(_shape(array, extents)) for array in written)


def _shape(array: Array, extents: Extents) -> list[int]:
    return [extent(name, extents) for name in array.axes]


def _moments(operation: str, tokens: int) -> tuple[int, int]:
    """About the squares of gradients that are drawn below, with e_g from -3 to 3."""
    octave = {"ternary_update": 38, "linear_update": 25 + tokens.bit_length()}.get(operation, 12)
    return (512 + octave - 24) << 21 | 1 << 20, (512 + octave - 16) << 21


def arguments_of_size(
    operation: str, extents: Extents, device: str, packer: Backend, rule: str = "scaled"
) -> Arguments:
    """The arguments of one legal, dense call, the same every time; packed arrays are made by `packer`."""
    generator = torch.Generator(device).manual_seed(1)
    table = OPERATIONS[operation]

    def between(low: int, high: int, shape: list[int], dtype: torch.dtype) -> torch.Tensor:
        return torch.randint(low, high + 1, shape, generator=generator, device=device, dtype=dtype)

    found: Arguments = {}
    for array in table.arrays:
        shape = _shape(array, extents)
        if array.name in ("codes", "dense"):
            trits = between(-1, 1, [shape[0], extents[array.axes[1][0]]], torch.int8)
            pack = packer.pack if array.name == "codes" else packer.pack_dense
            found[array.name] = pack(trits)
        elif array.name == "tokens":
            found[array.name] = between(0, extents["V"] - 1, shape, torch.int64)
        elif array.name == "targets":
            found[array.name] = between(0, extents["C"] - 1, shape, torch.int64)
        elif array.dtype == "float32":
            found[array.name] = torch.randn(shape, generator=generator, device=device)
            if array.name == "p":  # below 1
                found[array.name].abs_().mul_(1 / 16)
            found[array.name][1, 2] = torch.nan
        elif array.name == "moment":
            moments = between(*_moments(operation, extents["T"]), shape, torch.int32)
            found[array.name] = moments | 1 << 20  # normalised
        else:
            found[array.name] = between(*BETWEEN[array.name], shape, DTYPES[array.dtype])
        if array.name in ("e_x", "e_d") and operation != "quantise_columns":
            found[array.name][1] = POISONED
    found |= {name: _integer(name, extents) for name in table.scalars}
    return found | ({"rule": rule} if "rule" in found else {})


def _integer(name: str, extents: Extents) -> object:
    letters = EXTENT_OF | {"count": "count", "out_features": "O", "in_features": "I"}
    return extents[letters[name]] if name in letters else BUSY[name]


def _pieces(array: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """First row and rows of the array, as integers where it is float32: then == is of bits."""
    lines = max(1, PIECE // max(1, array[0].numel())) if array.dim() else 1
    for start in range(0, len(array), lines):
        piece = array[start : start + lines].contiguous()
        yield start, piece.view(torch.int32) if piece.dtype == torch.float32 else piece


def compare_pieces(operation: str, expected: Arrays, actual: Arrays) -> int:
    """Number of elements that were compared, on their device.

    Raises AssertionError unless all are the same.
    """
    compared = 0
    for name, right in expected.items():
        mine = actual[name]
        if (mine.dtype, mine.shape) != (right.dtype, right.shape):
            raise AssertionError(f"{operation}: {difference(name, right, mine)}")
        for (start, a), (_, b) in zip(_pieces(right), _pieces(mine), strict=True):
            if not torch.equal(a, b):
                raise AssertionError(f"{operation}, from row {start}: {difference(name, a, b)}")
            compared += a.numel()
    return compared


def compare_large(
    target: Target, judge: Backend, operation: str, extents: Extents, rule: str = "scaled"
) -> int:
    """One call by the target and by a judge on the same device -> number of compared elements.

    Raises AssertionError for a bit that differs and for an input that was changed.
    """
    arguments = arguments_of_size(operation, extents, target.device, judge, rule)
    mine = target.placed(arguments)
    actual = call(target.backend, operation, mine, target.device)
    inputs = [array.name for array in OPERATIONS[operation].arrays if not array.in_place]
    compare_pieces(f"inputs of {operation}", {n: arguments[n] for n in inputs}, {n: mine[n] for n in inputs})
    return compare_pieces(operation, call(judge, operation, arguments, target.device), actual)
