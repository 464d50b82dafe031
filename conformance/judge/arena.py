"""Tensors between red zones: what a backend reads or writes outside its arrays, or leaves unwritten, shows.

Arguments are placed in larger allocations, and so is every tensor that the backend makes through torch while
`Poisoned` is active: what torch leaves undefined there holds a pattern. Two runs with different patterns that
give the same bytes have not read the pattern, and no element of a result is one that was not written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from arbitor.conformance.judge.cases import carry
from arbitor.conformance.judge.compare import assert_same, difference
from arbitor.conformance.judge.target import Arguments, Arrays, CaseLost, Target, call
from arbitor.kernels.operations import OPERATIONS

# 10100101 and 01011010 are legal codes and tiny or huge floats; 11111111 is an illegal code, -1 and a NaN
PATTERNS = (0xA5, 0x5A, 0xFF)
RED = 4096  # bytes of a red zone
ALIGNMENT = 256  # of a buffer, as of what CUDA gives
FIELDS = {"codes": (4, 0x55), "dense": (5, 121)}  # packed array: (fields of a byte, byte of zero trits)

aten = torch.ops.aten
UNDEFINED = (aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided)
DEFINED = (
    aten.zeros, aten.zeros_like, aten.new_zeros, aten.ones, aten.ones_like, aten.new_ones, aten.full,
    aten.full_like, aten.new_full, aten.clone, aten._to_copy, aten.constant_pad_nd,
)  # fmt: skip


@dataclass(frozen=True)
class Block:
    """One allocation uint8 [n]; the tensor's bytes are `start` to `stop`, all others are red."""

    name: str
    memory: torch.Tensor
    start: int
    stop: int


class Arena:
    """Hands out tensors between red zones of one pattern; remembers them.

    `shift` is how many elements behind a boundary of 256 bytes an argument begins (allocations of the backend
    begin on one, as torch's do); `turned` names the matrices whose memory runs down their columns.
    """

    def __init__(self, pattern: int, shift: int = 0, turned: Sequence[str] = ()) -> None:
        self.pattern = pattern
        self.shift = shift
        self.turned = turned
        self.blocks: list[Block] = []

    def reserve(self, name: str, like: torch.Tensor, shift: int = 0) -> torch.Tensor:
        """A tensor with the dtype, shape, strides and device of `like`, full of the pattern."""
        size = like.element_size()
        extent = size * (1 + sum((n - 1) * s for n, s in zip(like.shape, like.stride(), strict=True)))
        length = extent + 2 * RED + ALIGNMENT + shift * size
        memory = torch.full((length,), self.pattern, dtype=torch.uint8, device=like.device)
        start = RED + -(memory.data_ptr() + RED) % ALIGNMENT + shift * size
        self.blocks.append(Block(name, memory, start, start + extent))
        typed = memory[start : start + extent].view(like.dtype)
        return typed.as_strided(like.shape, like.stride(), typed.storage_offset())

    def place(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """The layout of an argument: without gaps, between red zones."""
        tensor = tensor.t().contiguous().t() if name in self.turned else tensor.contiguous()
        return self.reserve(name, tensor, self.shift).copy_(tensor)

    def check(self) -> None:
        """Raises AssertionError if a byte of a red zone is not the pattern."""
        for block in self.blocks:
            zones = (("before", 0, block.start), ("behind", block.stop, block.memory.numel()))
            for where, begin, end in zones:
                touched = (block.memory[begin:end] != self.pattern).nonzero()
                if len(touched) == 0:
                    continue
                far = block.start - int(touched[-1]) if where == "before" else int(touched[0]) + 1
                raise AssertionError(
                    f"{block.name}: {len(touched)} bytes of the red zone {where} it were written, "
                    f"the nearest {far} bytes outside"
                )


class Poisoned(TorchDispatchMode):
    """While active, tensors that are made by name (empty, zeros, clone, ...) lie in the arena.

    What torch computes itself stays where torch puts it: nobody here can write past its end.
    """

    def __init__(self, arena: Arena) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.arena = arena

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        if packet not in UNDEFINED + DEFINED or found.numel() == 0 or found.layout != torch.strided:
            return found
        placed = self.arena.reserve(f"a tensor of {packet.__name__} {list(found.shape)}", found)
        return placed if packet in UNDEFINED else placed.copy_(found)


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
    with Poisoned(arena):
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
