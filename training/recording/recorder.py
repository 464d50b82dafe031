"""What a run records of every update, so that it can be audited: digests.jsonl (ARB-TRAIN-006).

The first line says what the digests are of, and what the run was made on. Then a line for each update: the
digest of its batches, its loss to the bit, the digests of the state behind it, 16 digits a tensor. They are
computed where the state lies, and read when lines are written.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from arbitor import __version__
from arbitor.kernels import registry

from ..tasks.task import Batch
from .digests import Digests, as_text, digests_of

FORMAT = 1
MOST_PENDING = 64  # updates whose digests have not been read


class Recorder:
    """Digests of the tensors of one state, which stays on its device."""

    def __init__(
        self, kind: str, tensors: Mapping[str, torch.Tensor], backend: registry.Backend, ranks: int
    ) -> None:
        self._digests = Digests(tensors, backend)
        device = next(iter(tensors.values())).device
        self._header = {
            "format": FORMAT,
            "kind": kind,
            "tensors": {name: [str(t.dtype).removeprefix("torch."), *t.shape] for name, t in tensors.items()},
            "by": {
                "arbitor": __version__,
                "backend": backend.name,
                "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
                "torch": torch.__version__,
                "python": platform.python_version(),
                "ranks": ranks,
            },
        }
        self._batches: list[Batch] = []
        self._pending: list[tuple[int, list[Batch], torch.Tensor, torch.Tensor]] = []

    def opening(self, step: int, tensors: Mapping[str, torch.Tensor]) -> list[dict[str, Any]]:
        """The lines that a file begins with, at `step`."""
        return [self._header, {"step": step, "state": as_text(self._digests.of(tensors))}]

    def batch(self, batch: Batch) -> None:
        """A batch of the update to come, on the CPU."""
        self._batches.append(batch)

    def updated(self, step: int, loss: torch.Tensor, tensors: Mapping[str, torch.Tensor]) -> None:
        """The update that ends at `step` is done."""
        self._pending.append((step, self._batches, loss, self._digests.of(tensors)))
        self._batches = []

    @property
    def full(self) -> bool:
        """Whether it is time to write."""
        return len(self._pending) >= MOST_PENDING

    def lines(self) -> list[dict[str, Any]]:
        """Those of the updates since the last call."""
        taken, self._pending = self._pending, []
        batches = digests_of_batches([batches for _, batches, _, _ in taken])
        return [
            {"step": step, "batch": batch, "loss": float(loss).hex(), "state": as_text(state)}
            for (step, _, loss, state), batch in zip(taken, batches, strict=True)
        ]


def digests_of_batches(updates: Sequence[Sequence[Batch]]) -> list[str]:
    """Of each update the digest of those of its batches; of many at once, since a batch is small."""
    if not updates:
        return []
    host = registry.select("torch")
    each = iter(digests_of([batch for batches in updates for batch in batches], host))
    signed = [[_signed(next(each)) for _ in batches] for batches in updates]
    words = [[torch.tensor(numbers, dtype=torch.int64, device="cpu")] for numbers in signed]
    return [f"{digest:016x}" for digest in digests_of(words, host)]


def _signed(digest: int) -> int:
    return digest - (digest >> 63 << 64)
