"""Tensors between red zones: what is written outside of them, or read of what nobody wrote, shows.

Arguments are placed in larger allocations, and so is every tensor that is made through torch while `Poisoned`
is active: what torch leaves undefined there holds a pattern. Two runs with different patterns that give the
same bytes have not read the pattern, and no element of a result is one that was not written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

RED = 4096  # bytes of a red zone
ALIGNMENT = 256  # of a buffer, as of what CUDA gives

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

    def reserve(self, name: str, like: torch.Tensor) -> torch.Tensor:
        """A tensor with the dtype, shape, strides and device of `like`, full of the pattern."""
        return self._reserve(name, like, 0)

    def _reserve(self, name: str, like: torch.Tensor, shift: int) -> torch.Tensor:
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
        return self._reserve(name, tensor, self.shift).copy_(tensor)

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
