"""Tensors between two processes: their memory lies in a file that both have mapped, the rest is JSON.

A tensor travels as its whole storage, so strides, gaps between elements and what lies around them are the
same on the other side, and what is written there comes back. Storages keep their place against a boundary of
256 bytes. Nothing is unpickled: what the other side says is numbers, and they are checked.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch

from .answers import WrongAnswer

ALIGNMENT = 256  # bytes
ROOM = 1 << 20  # bytes for results beside those that are expected
ADD_SEALS, SEAL_SEAL, SEAL_SHRINK = 1033, 1, 2  # of fcntl, which Python has no names for
LARGEST = 1 << 38  # bytes of one call, and elements of one result
DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16,
        torch.float32, torch.float64, torch.bool,
    )
}  # fmt: skip


class Memory:
    """A file in memory, mapped; grows when more is asked for. `descriptor` is what the other side opens."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.size = 0
        self._bytes: mmap.mmap | None = None

    @classmethod
    def new(cls) -> Memory:
        """One of its own, which the other side cannot make smaller."""
        descriptor = os.memfd_create("arbitor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(descriptor, ADD_SEALS, SEAL_SHRINK | SEAL_SEAL)
        return cls(descriptor)

    def reserve(self, size: int) -> None:
        """Have at least that many bytes; both sides say so before a call."""
        if size > LARGEST:
            raise ValueError(f"a call of {size} bytes, expected at most {LARGEST}")
        if size <= self.size:
            return
        size = -(-size // ROOM) * ROOM
        if os.fstat(self.descriptor).st_size < size:
            os.ftruncate(self.descriptor, size)
        self._bytes = mmap.mmap(self.descriptor, size)  # the old one lives as long as its tensors
        self.size = size

    def piece(self, start: int, length: int) -> torch.Tensor:
        """uint8 [length] in that memory; raises WrongAnswer for a place outside of it."""
        if not (start >= 0 and length >= 0 and start + length <= self.size):
            raise WrongAnswer(f"bytes {start} to {start + length} of a memory of {self.size}")
        if not length:
            return torch.empty(0, dtype=torch.uint8)
        assert self._bytes is not None
        return torch.frombuffer(self._bytes, dtype=torch.uint8, count=length, offset=start)


def storage_of(tensor: torch.Tensor) -> torch.Tensor:
    """All bytes of its storage, uint8 [n], on its device."""
    storage = tensor.untyped_storage()
    return torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(storage)


class Sent:
    """Tensors that are in the memory: copied in when it is made, and back by `bring_back`."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self.places: dict[str, dict[str, Any]] = {}
        self.storages: dict[int, tuple[torch.Tensor, int]] = {}
        self.end = 0
        for name, tensor in tensors.items():
            storage = storage_of(tensor)
            address = storage.data_ptr()
            if address not in self.storages:
                start = -(-self.end // ALIGNMENT) * ALIGNMENT + address % ALIGNMENT
                self.storages[address] = storage, start
                self.end = start + storage.numel()
            self.places[name] = {
                "dtype": str(tensor.dtype).removeprefix("torch."),
                "shape": list(tensor.shape),
                "strides": list(tensor.stride()),
                "offset": tensor.storage_offset(),
                "start": self.storages[address][1],
                "bytes": storage.numel(),
            }

    def copy_in(self, memory: Memory) -> None:
        """Write all storages."""
        for storage, start in self.storages.values():
            memory.piece(start, storage.numel()).copy_(storage)

    def bring_back(self, memory: Memory) -> None:
        """Read all storages: what the other side wrote is where it wrote it."""
        for storage, start in self.storages.values():
            storage.copy_(memory.piece(start, storage.numel()))


def received(places: Mapping[str, Mapping[str, Any]], memory: Memory, device: str) -> dict[str, torch.Tensor]:
    """The tensors on this side, one storage for those that share one; on the CPU in the memory itself."""
    storages: dict[int, torch.Tensor] = {}
    found = {}
    for name, place in places.items():
        start = place["start"]
        if start not in storages:
            storages[start] = memory.piece(start, place["bytes"]).to(device)
        dtype = DTYPES[place["dtype"]]
        whole = storages[start]
        tensor = torch.empty(0, dtype=dtype, device=whole.device)
        found[name] = tensor.set_(whole.untyped_storage(), place["offset"], place["shape"], place["strides"])
    return found


def put_back(
    tensors: Mapping[str, torch.Tensor], places: Mapping[str, Mapping[str, Any]], memory: Memory
) -> None:
    """Write the storages of tensors that were received on a device into the memory again."""
    for name, tensor in tensors.items():
        if tensor.device.type != "cpu":
            memory.piece(places[name]["start"], places[name]["bytes"]).copy_(storage_of(tensor))


def bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    """uint8 [N]: its own elements in C order, whatever memory they are a part of; a copy only if need be."""
    return tensor.detach().contiguous().view(-1).view(torch.uint8)


def results_in(found: Sequence[torch.Tensor], start: int, memory: Memory) -> list[dict[str, Any]]:
    """Copy results into the memory from `start` on; what has no room is only described."""
    said = []
    for tensor in found:
        start = -(-start // ALIGNMENT) * ALIGNMENT
        size = tensor.numel() * tensor.element_size()
        fits = start + size <= memory.size
        said.append(
            {
                "dtype": str(tensor.dtype).removeprefix("torch."),
                "shape": list(tensor.shape),
                "device": tensor.device.type,
                "start": start if fits else None,
            }
        )
        if fits:
            memory.piece(start, size).copy_(bytes_of(tensor))
            start += size
    return said


def results_from(
    said: Any, names: Sequence[str], memory: Memory, where: str, device: str
) -> list[torch.Tensor]:
    """The results as tensors of their own; raises WrongAnswer for what is not described as such, or is on
    another type of device."""
    if not isinstance(said, list) or len(said) != len(names):
        raise WrongAnswer(f"{where} gave no {len(names)} results: {', '.join(names)}")
    return [
        _result(entry, f"{where}: {name}", memory, device) for name, entry in zip(names, said, strict=True)
    ]


def _result(entry: Any, where: str, memory: Memory, device: str) -> torch.Tensor:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "device", "start"}:
        raise WrongAnswer(f"{where} is {str(entry)[:120]}, expected dtype, shape, device and start")
    shape, dtype = entry["shape"], DTYPES.get(str(entry["dtype"]))
    whole = (
        isinstance(shape, list)
        and len(shape) < 16
        and all(type(n) is int and 0 <= n <= LARGEST for n in shape)
        and prod(shape) <= LARGEST
    )
    if dtype is None or not whole or entry["device"] != device:
        words = f"{where} has dtype {entry['dtype']}, shape {shape} and is on {entry['device']}"
        raise WrongAnswer(f"{words[:400]}, expected a tensor on {device}")
    if type(entry["start"]) is not int:
        raise WrongAnswer(f"{where} has shape {shape}, which is larger than what is expected")
    data = memory.piece(entry["start"], prod(shape) * dtype.itemsize).clone()
    return data.view(dtype).view(shape).to(entry["device"])
