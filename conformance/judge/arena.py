"""Calls between red zones and on poisoned memory (kernels/plugins/redzones.py), compared with the judge.

A backend that runs in another process has its arguments between the same red zones, which come back with
them, and what it makes itself is poisoned and looked at over there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from arbitor.conformance.judge.cases import carry
from arbitor.conformance.judge.compare import assert_same, difference
from arbitor.conformance.judge.target import Arguments, Arrays, CaseLost, Target, call
from arbitor.kernels.operations import OPERATIONS
from arbitor.kernels.plugins.apart import poisoned
from arbitor.kernels.plugins.redzones import Arena, Poisoned

# 10100101 and 01011010 are legal codes and tiny or huge floats; 11111111 is an illegal code, -1 and a NaN
PATTERNS = (0xA5, 0x5A, 0xFF)
FIELDS = {"codes": (4, 0x55), "dense": (5, 121)}  # packed array: (fields of a byte, byte of zero trits)


def check_padding(operation: str, arguments: Arguments, found: Arrays) -> None:
    """Raises AssertionError unless the fields behind the last element of every packed row hold code 1."""
    for name, array in found.items():
        if name not in FIELDS:
            continue
        fields, zeros = FIELDS[name]
        columns = columns_of(operation, arguments)
        base = 4 if fields == 4 else 3
        kept: int = base ** ((columns - 1) % fields + 1)
        wrong = (array[:, -1].cpu().long() // kept != zeros // kept).nonzero()
        if len(wrong):
            raise AssertionError(f"{operation}: padding of row {int(wrong[0])} of {name} is not code 1")


def columns_of(operation: str, arguments: Arguments) -> int:
    """Number of trits in a row of the packed array that the operation writes."""
    if operation == "initialise":
        return int(arguments["in_features"])
    return int(arguments["trits" if "trits" in arguments else "t_accum"].shape[1])


def check_in_arena(
    target: Target,
    operation: str,
    arguments: Arguments,
    shift: int = 0,
    turned: Sequence[str] = (),
) -> int:
    """One call a pattern, each compared with the judge -> number of buffers that lay between red zones.

    Raises AssertionError for a byte that is not right: of a red zone, an input, a result, an argument written
    in place, or padding.
    """
    buffers = 0
    judged = {n: v.clone() if isinstance(v, torch.Tensor) else v for n, v in arguments.items()}
    expected = call(target.judge, operation, judged)
    for pattern in PATTERNS:
        arena = Arena(pattern, shift, turned)
        actual: Arrays = {}
        try:
            _check_pattern(target, operation, arguments, arena, expected, actual)
        except (Exception, CaseLost) as error:
            way = {"arena": {"shift": shift, "turned": list(turned)}}
            carry(error, target.case(operation, arguments, way, expected, actual))
            raise
        buffers += len(arena.blocks)
    return buffers


def _check_pattern(
    target: Target, operation: str, arguments: Arguments, arena: Arena, expected: Arrays, actual: Arrays
) -> None:
    """One call in an arena; `actual` takes what it gives."""
    mine = target.placed(arguments, arena.place)
    with Poisoned(arena), poisoned(arena.pattern):
        actual |= call(target.backend, operation, mine, target.device)
    try:
        arena.check()
    except AssertionError as error:
        raise AssertionError(f"{operation}, pattern 0x{arena.pattern:02X}: {error}") from None
    for array in OPERATIONS[operation].arrays:
        if not array.in_place and difference(array.name, arguments[array.name], mine[array.name]):
            raise AssertionError(f"{operation} changed its input {array.name}")
    assert_same(operation, arguments, expected, actual, target.backend.name)
    check_padding(operation, arguments, actual)
