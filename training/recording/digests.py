"""Digests of tensors where they lie: 64 bits each, of no order or device (ARB-DIG-001, ARB-DIG-002)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from arbitor.kernels.registry import Backend

COLUMNS = 1024  # words of a row
_ROW = 8 * COLUMNS  # bytes


class Digests:
    """Digests of tensors of these names, dtypes and extents, on their device, by a backend."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], backend: Backend) -> None:
        self.names, self._backend = tuple(tensors), backend
        device = next(iter(tensors.values())).device
        self._padding = torch.zeros(_ROW, dtype=torch.uint8, device=device)
        counts = [-(-tensor.nbytes // _ROW) for tensor in tensors.values()]
        owners = [place for place, count in enumerate(counts) for _ in range(count)]
        first = [COLUMNS * row for count in counts for row in range(count)]
        self._owners, self._first = (
            torch.tensor(numbers, dtype=torch.int64, device=device) for numbers in (owners, first)
        )

    def of(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """int64, one a tensor in the order of the names."""
        parts = []
        for name in self.names:
            raw = tensors[name].contiguous().view(-1).view(torch.uint8)
            parts += [raw, self._padding[: -len(raw) % _ROW]]
        found = torch.zeros(len(self.names), dtype=torch.int64, device=self._first.device)
        if len(self._first):
            words = torch.cat(parts).view(torch.int64).view(-1, COLUMNS)
            found.index_add_(0, self._owners, self._backend.digest(words, self._first))
        return found


def digest_of(tensors: Sequence[torch.Tensor], backend: Backend) -> int:
    """The digest of the digests of several tensors, without sign."""
    named = {str(place): tensor for place, tensor in enumerate(tensors)}
    each = Digests(named, backend).of(named)
    return int(Digests({"": each}, backend).of({"": each})) & (1 << 64) - 1


def as_text(digests: torch.Tensor) -> str:
    """16 hexadecimal digits for each of int64 [N]."""
    return "".join(f"{digest & (1 << 64) - 1:016x}" for digest in digests.tolist())
