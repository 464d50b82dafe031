"""The work of ARBModel: the same bits on every backend and device (section 13)."""

from __future__ import annotations

from typing import Any

import torch

from arbitor.kernels import registry

from .losses import Balance, CrossEntropy, SquaredError
from .rows import Norm, Shares, Sigmoid, Softmax, Spread, Weighted
from .sequences import ALL_BEFORE, Attend
from .uncompiled import uncompiled
from .work import Past


class ExactWork:
    """`Work` on the backend of that name, or the one that ARB_TERNARY_BACKEND or `auto` picks for a device.

    Any float dtype is taken as float32 first.
    """

    def __init__(self, backend: str | None = None) -> None:
        self._asked = registry.asked_for(backend)
        self._taken: dict[str, str] = {}  # backend by kind of device: names, so that models can be copied

    def _on(self, x: torch.Tensor) -> registry.Backend:
        kind = x.device.type
        if kind not in self._taken:
            self._taken[kind] = registry.choose(self._asked, kind).backend.name
        return registry.select(self._taken[kind])

    def norm(self, x: torch.Tensor) -> torch.Tensor:
        """ARB-NORM-001, -002, of any leading extents."""
        rows = x.float().reshape(-1, x.shape[-1])
        if not len(rows):
            return rows.view(x.shape)
        return _tensor(Norm, rows.contiguous(), self._on(x)).view(x.shape)

    def attend(
        self, qkv: torch.Tensor, heads: int, window: int | None, start: int, past: Past | None
    ) -> tuple[torch.Tensor, Past]:
        """ARB-HEAD-001 to ARB-ATT-006."""
        seen = ALL_BEFORE if window is None else window
        y, k, v = _applied(Attend, qkv.float().contiguous(), heads, seen, start, past, self._on(qkv))
        return y, (k, v)

    def softmax(self, x: torch.Tensor) -> torch.Tensor:
        """ARB-SOFT-001, -002."""
        return _tensor(Softmax, x.contiguous(), self._on(x))

    def sigmoid(self, x: torch.Tensor) -> torch.Tensor:
        """ARB-SOFT-003, -004."""
        return _tensor(Sigmoid, x.contiguous(), self._on(x))

    def shares(self, weights: torch.Tensor) -> torch.Tensor:
        """ARB-MIX-001."""
        return _tensor(Shares, weights)

    def spread(self, h: torch.Tensor, slots: int) -> torch.Tensor:
        """ARB-MIX-002."""
        return _tensor(Spread, h, slots)

    def weighted(self, weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """ARB-MIX-003."""
        return _tensor(Weighted, weights, values, self._on(values))

    def balance(self, p: torch.Tensor, usage: torch.Tensor) -> torch.Tensor:
        """ARB-MOE-004."""
        return _tensor(Balance, p, usage)

    def cross_entropy(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """ARB-LOSS-001, -004."""
        rows = logits.float().reshape(-1, logits.shape[-1]).contiguous()
        return _tensor(CrossEntropy, rows, targets.reshape(-1).contiguous(), self._on(logits))

    def squared_error(self, guess: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """ARB-LOSS-003, -005."""
        rows = (x.float().reshape(-1, x.shape[-1]).contiguous() for x in (guess, truth))
        return _tensor(SquaredError, *rows, self._on(guess))


@uncompiled
def _applied(function: Any, *arguments: Any) -> Any:
    return function.apply(*arguments)


def _tensor(function: Any, *arguments: Any) -> torch.Tensor:
    found: torch.Tensor = _applied(function, *arguments)
    return found
