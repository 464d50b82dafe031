"""What a run measures. Logged are means over a window: the updates since the line before, however many.

A window ends where a line is due, and with the run; one that a checkpoint cuts goes on from it. So its length
is counted, and is not the log interval: an interval is rounded up to a multiple of --accum, and the last
window is what was left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from arbitor.kernels.reading import schema_fault
from arbitor.ranks import Ranks
from arbitor.update import COUNTS

MOST_LOSS = 2.0**20  # a loss above it counts as that
MOST = 2**63 - 1
_COUNT = {"type": "integer", "minimum": 0, "maximum": MOST}
_FLOAT = r"^(nan|-?inf|-?0x[01]\.[0-9a-f]{13}p[+-][0-9]{1,3}|-?0x0\.0p\+0)$"  # as float.hex writes it
_MARK = {
    "type": "object",
    "additionalProperties": False,
    "required": ["lines", "bytes", "sha256"],
    "properties": {
        "lines": _COUNT,
        "bytes": _COUNT,
        "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    },
}
PENDING: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["losses", "counts", "metrics", "digests"],
    "properties": {
        "losses": {"type": "array", "items": {"type": "string", "pattern": _FLOAT}},
        "counts": {
            "type": "object",
            "additionalProperties": False,
            "required": list(COUNTS),
            "properties": dict.fromkeys(COUNTS, _COUNT),
        },
        "metrics": _MARK,
        "digests": _MARK,
    },
}


@dataclass
class Result:
    """What a run measured. `losses` has one entry a logged line, `valid` one a validation; `measures` and
    `experts`, the passes and the shares of experts by block, are from the last one; `guess` is what knowing
    frequencies alone would score.

    `backend` and `reason` are the backend and why it was taken; a baseline has none.
    """

    name: str
    backend: str = ""
    reason: str = ""
    steps: int = 0
    losses: list[float] = field(default_factory=list)
    valid: list[float] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    unit: str = ""
    guess: float = math.nan
    guess_name: str = ""
    measures: dict[str, float] = field(default_factory=dict)
    experts: list[dict[str, Any]] = field(default_factory=list)
    digest: str = ""
    float_parameters: int = 0
    seconds: float = 0.0
    interrupted: bool = False


def due(done: int, interval: int, accum: int, steps: int) -> bool:
    """Whether something of this interval falls on step `done`: on multiples of both, and at the end
    (ARB-RUN-008); never with interval 0."""
    return interval > 0 and (done % _every(interval, accum) == 0 or done == steps)


def left_over(done: int, interval: int, accum: int, steps: int) -> int:
    """Steps since the last line, at step `done`."""
    return 0 if interval == 0 or done == steps else done % _every(interval, accum)


def _every(interval: int, accum: int) -> int:
    return -(-interval // accum) * accum


def pending_fault(pending: Any, updates: int) -> str | None:
    """What is wrong with a checkpoint's `pending`, in words that follow it, or None: a window of `updates`
    updates, and what was written of metrics.jsonl."""
    fault = schema_fault(pending, PENDING)
    if fault is None and len(pending["losses"]) != updates:
        fault = f"has {len(pending['losses'])} losses, expected those of {updates} updates"
    return fault


def mean(losses: Sequence[float], weights: Sequence[int] | None = None) -> float:
    """The weighted mean of losses, by a sum that is rounded once (ARB-TRAIN-005): NaN where one is not
    finite."""
    weights = weights or [1] * len(losses)
    if not all(map(math.isfinite, losses)):
        return math.nan
    return math.fsum(loss * weight for loss, weight in zip(losses, weights, strict=True)) / sum(weights)


def sum_of(losses: Sequence[torch.Tensor], ranks: Ranks | None) -> torch.Tensor:
    """Scalars of all ranks -> their sum as float32, a scalar, by integers (ARB-TRAIN-005)."""
    values = torch.stack(list(losses)).double()
    finite = values.isfinite()
    units = (torch.where(finite, values, 0.0).clamp(-MOST_LOSS, MOST_LOSS) * 2.0**32).round().long()
    found = torch.stack([units.sum(), (~finite).sum()])
    if ranks is not None:
        found = ranks.sum(found)
    total, lost = found
    return torch.where(lost > 0, math.nan, total.double() * 2.0**-32).float()


class Window:
    """Losses and counts of the updates since the last line, on `device`: they are read when they are
    logged."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._losses: list[torch.Tensor] = []
        self._counts = self._no_counts()

    def add(self, loss: torch.Tensor, counts: torch.Tensor | None) -> None:
        """One update: its loss float32 [], and its counts int64 [5] by COUNTS, None where none are made."""
        self._losses.append(loss)
        if counts is not None:
            self._counts += counts

    def take(self) -> dict[str, float]:
        """Means an update, by name; the window is empty afterwards. A loss that is not finite is NaN."""
        updates = len(self._losses)
        record = {"loss": mean(torch.stack(self._losses).tolist())}
        record |= {name: total / updates for name, total in zip(COUNTS, self._counts.tolist(), strict=True)}
        self._losses.clear()
        self._counts = self._no_counts()
        return record

    def state(self) -> dict[str, Any]:
        """The window as JSON, to the bit."""
        return {
            "losses": [float(loss).hex() for loss in self._losses],
            "counts": dict(zip(COUNTS, self._counts.tolist(), strict=True)),
        }

    def load_state(self, pending: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        losses = [float.fromhex(loss) for loss in pending["losses"]]
        self._losses = [torch.tensor(loss, dtype=torch.float32, device=self._device) for loss in losses]
        self._counts += torch.tensor([pending["counts"][name] for name in COUNTS], device=self._device)

    def _no_counts(self) -> torch.Tensor:
        return torch.zeros(len(COUNTS), dtype=torch.int64, device=self._device)
