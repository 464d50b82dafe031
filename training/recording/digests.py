"""Digests of tensors where they lie: 64 bits each, of no order or device (ARB-DIG-001, ARB-DIG-002)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from arbitor.kernels.registry import Backend

COLUMNS = 1024  # words of a row
MASK = (1 << 64) - 1
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


def digests_of(groups: Sequence[Sequence[torch.Tensor]], backend: Backend) -> list[int]:
    """Of each group of tensors the digest of their digests, without sign; many groups in two calls."""
    named = {str(place): tensor for place, tensor in enumerate(t for group in groups for t in group)}
    each = Digests(named, backend).of(named).tolist()
    words = torch.zeros(len(groups), max(map(len, groups)), dtype=torch.int64)
    for row, group in enumerate(groups):  # zeros behind them add nothing
        words[row, : len(group)] = torch.tensor(each[: len(group)], dtype=torch.int64)
        del each[: len(group)]
    words = words.to(groups[0][0].device)
    return [digest & MASK for digest in backend.digest(words, torch.zeros_like(words[:, 0])).tolist()]


def as_text(digests: torch.Tensor) -> str:
    """16 hexadecimal digits for each of int64 [N]."""
    return "".join(f"{digest & MASK:016x}" for digest in digests.tolist())
