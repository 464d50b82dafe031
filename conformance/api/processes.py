"""Run under torchrun with a device, a backend and ways: the small GPT on all ranks, wrapped as people do it;
prints a hash of the ternary state for each way. Over nccl on CUDA, else over gloo."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import arbitor
from arbitor.checkpoint import state_hash
from arbitor.conformance.api.gpt import GPT, batches, loss_of, made, run
from arbitor.update import ternary_modules

CHANGES = ("seed", "before", "after")  # of rank 1: made, loaded before joining, loaded after a step


def sharded(model: GPT) -> nn.Module:
    """As torch's own tutorial: each block, then the rest."""
    device = next(model.parameters()).device.type
    mesh = init_device_mesh(device, (torch.distributed.get_world_size(),))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def compiled(model: nn.Module) -> Any:
    """As torch.compile wraps it; names of its parts are others then."""
    return torch.compile(model, backend="aot_eager")


def blocks_of(wrap: Callable[[nn.Module], Any], model: GPT) -> GPT:
    """Each block wrapped by itself, behind ternarize."""
    model.blocks = nn.ModuleList(wrap(block) for block in model.blocks)
    return model


class Whole(nn.Module):
    """What people put around a model, to have the loss in it say; its attributes are its own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        arbitor.join_ranks(self)

    def forward(self, tokens: torch.Tensor) -> Any:
        return self.model(tokens)


WAYS: Mapping[str, Callable[[GPT], Any]] = {
    "DDP": DistributedDataParallel,
    "DDP without buffers": lambda model: DistributedDataParallel(model, broadcast_buffers=False),
    "fully_shard": sharded,
    "alone": lambda model: model,
    "compiled DDP": lambda model: compiled(DistributedDataParallel(model)),
    "compiled fully_shard": lambda model: compiled(sharded(model)),
    "DDP of a whole": lambda model: DistributedDataParallel(Whole(model)),
    "DDP of compiled": lambda model: DistributedDataParallel(compiled(model)),
    "DDP of checkpointed": lambda model: DistributedDataParallel(checkpoint_wrapper(model)),
    "DDP of both": lambda model: DistributedDataParallel(checkpoint_wrapper(compiled(model))),
    "DDP of both, turned": lambda model: DistributedDataParallel(compiled(checkpoint_wrapper(model))),
    "DDP of both, and again": lambda model: DistributedDataParallel(
        checkpoint_wrapper(checkpoint_wrapper(compiled(model)))
    ),
    "DDP of compiled blocks": lambda model: DistributedDataParallel(blocks_of(compiled, model)),
    "DDP of checkpointed blocks": lambda model: DistributedDataParallel(blocks_of(checkpoint_wrapper, model)),
}
INSIDE = ("_orig_mod.", "_checkpoint_wrapped_module.")  # of names of what is wrapped


def refused(change: str, ranks: arbitor.Ranks, device: str, backend: str) -> str:
    """What an update says where rank 1 has something else."""
    model = made(device, backend, ranks.rank if change == "seed" else 0)
    other = made(device, backend, 5).state_dict()
    if change == "before" and ranks.rank:
        model.load_state_dict(other)
    arbitor.join_ranks(model)
    ternary = arbitor.TernaryOptimizer(model)
    for number, batch in enumerate(batches(device, 2)):
        if change == "after" and number and ranks.rank:
            model.load_state_dict(other)
        loss_of(model, ranks.slice(batch)).backward()
        try:
            ternary.step()
        except ValueError as error:
            return f"step {number}: {error}"
    return "nothing"


def trained(way: str, ranks: arbitor.Ranks | None, device: str, backend: str) -> str:
    """Three steps, in which float parameters stay -> the hash of what is ternary."""
    model = made(device, backend)
    if ranks is not None:
        arbitor.join_ranks(model)
    how: dict[str, Any] = {} if ranks is None else {"net": WAYS[way](model), "share": ranks.slice}
    run(model, lr=0.0, **how)
    if way == "fully_shard":
        with suppress(TypeError):
            state_hash(model.state_dict())
            return "the hash of a part"
    found = {f"{n}.{key}": t for n, m in ternary_modules(model).items() for key, t in m.state().items()}
    for inside in INSIDE:
        found = {name.replace(inside, ""): tensor for name, tensor in found.items()}
    return state_hash(found)


def say(line: str) -> None:
    """In one write, or ranks write into each other's lines."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    device, backend, *ways = sys.argv[1:]
    joined = arbitor.start_ranks(device)
    assert joined is not None
    for each in ways:
        say(f"{each}: {trained(each, joined, device, backend)}")
    for each in CHANGES:
        say(f"{each}: {refused(each, joined, device, backend)}")
    arbitor.end_ranks()
