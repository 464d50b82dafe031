"""One model on several ranks of torch.distributed, bit for bit the model of one rank (ARB-RANK-001 to -004).

What is summed is integers, and what has to be shared before rounding (the exponent of a column) is a largest
value, so neither the number of ranks nor the order of their messages can change a bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # its defaults would hold a group that is there, and its threads

POISONED, EXPONENT_MIN = 127, -100  # ARB-QUANT-007, -001
Quantise = Callable[[torch.Tensor, torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Ranks:
    """This process among `size` of them. Every call is a collective: all ranks make it, in the same order."""

    rank: int
    size: int

    @property
    def octaves(self) -> int:
        """log2 of how many times larger gradients are than those of the whole batch's mean, if the loss of
        each is the mean over its own tokens (ARB-RANK-006); 0 where that is no power of two, which nothing
        can take away exactly."""
        return self.size.bit_length() - 1 if self.size & (self.size - 1) == 0 else 0

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks; written into the tensor, if it is where the group communicates."""
        return self._reduced(tensor, dist.ReduceOp.SUM)

    def largest(self, tensor: torch.Tensor) -> torch.Tensor:
        """The largest over all ranks, int32; written likewise."""
        return self._reduced(tensor, dist.ReduceOp.MAX)

    def _reduced(self, tensor: torch.Tensor, how: dist.ReduceOp.RedOpType) -> torch.Tensor:
        placed = tensor.cuda() if dist.get_backend() == "nccl" else tensor
        dist.all_reduce(placed, how)
        return placed.to(tensor.device)

    def any(self, flag: bool) -> bool:
        """Whether it is true on some rank."""
        return bool(self.largest(torch.tensor([int(flag)], dtype=torch.int32, device="cpu")))

    def differing(self, numbers: Sequence[int]) -> list[int]:
        """Places of the numbers, of 31 bits and as many on each rank, that are not the same on all."""
        own = torch.tensor([*numbers, *(-number for number in numbers)], dtype=torch.int32, device="cpu")
        most = self.largest(own).tolist()
        pairs = zip(most[: len(numbers)], most[len(numbers) :], strict=True)
        return [place for place, (largest, smallest) in enumerate(pairs) if largest != -smallest]

    def sum_gradients(self, parameters: Sequence[torch.Tensor]) -> None:
        """Make each gradient the sum over all ranks: a rank without one adds zeros, and where no rank has one
        there stays none. So all ranks make the same calls, whatever their tokens reached."""
        own = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32, device="cpu")
        for parameter, reached in zip(parameters, self.largest(own).tolist(), strict=True):
            if reached:
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = self.sum(gradient)

    def texts(self, text: str) -> list[str]:
        """The texts of all ranks, in rank order."""
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, text)
        return found

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensors of all ranks, of one shape, along axis 0 in rank order."""
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def slice(self, tensor: torch.Tensor) -> torch.Tensor:
        """This rank's part of a batch. Raises ValueError if the parts are not equal."""
        if len(tensor) % self.size:
            raise ValueError(f"a batch of {len(tensor)} cannot be cut into {self.size} equal parts")
        share = len(tensor) // self.size
        return tensor[self.rank * share : (self.rank + 1) * share]


def start_ranks(device: str = "auto") -> Ranks | None:
    """Join the group that `torchrun` has started this process in; None if there is one process alone.

    nccl if there is a GPU for each process of this machine and `device` is not "cpu", else gloo.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return None
    local = int(os.environ.get("LOCAL_RANK", "0"))
    enough = torch.cuda.device_count() >= int(os.environ.get("LOCAL_WORLD_SIZE", size))
    on_gpus = enough and device != "cpu"
    if on_gpus:
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if on_gpus else "gloo")
    return Ranks(dist.get_rank(), size)


def end_ranks() -> None:
    """Leave the group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def quantise_on_ranks(
    quantise: Quantise, calls: Sequence[tuple[torch.Tensor, torch.Tensor]], ranks: Ranks
) -> tuple[torch.Tensor, torch.Tensor]:
    """`quantise(dy, e_x, first_row)` of ARB-QUANT-010 over the tokens of all ranks -> q int8 [T, O] of this
    rank's tokens, e int32 [O] of all.

    `calls` are dy float32 [n, O] and e_x int8 [n] of this rank's calls in forward order; every rank has the
    same n.
    """
    firsts, numbered = [], 0
    for dy, _ in calls:
        firsts.append(numbered + ranks.rank * len(dy))
        numbered += ranks.size * len(dy)
    own = [quantise(dy, e_x, first)[1] for (dy, e_x), first in zip(calls, firsts, strict=True)]
    e = ranks.largest(torch.stack(own).amax(0).int())
    carrier = carrying(e)[None]
    q = [
        quantise(torch.cat([dy, carrier]), torch.cat([e_x, e_x.new_zeros(1)]), first)[0][:-1]
        for (dy, e_x), first in zip(calls, firsts, strict=True)
    ]
    return torch.cat(q), e


def carrying(e: torch.Tensor) -> torch.Tensor:
    """float32 values whose sets get the exponents e int32 (ARB-QUANT-002): a row of them beside others of
    smaller exponents decides. 63.75 * 2^e is more than 127 * 2^(e-1) and less than 127 * 2^e."""
    values = torch.ldexp(torch.full_like(e, 63.75, dtype=torch.float64), e)
    return values.masked_fill(e == EXPONENT_MIN, 0.0).masked_fill(e == POISONED, float("inf")).float()
