"""How calm a run was: the largest spike of its training loss, from the loss of every step.

A *spike* is how far the loss of a step stands above the lowest running median before it, after warm-up. The
running median at a step is that of the `WINDOW` losses before it.

- A median, because one lucky batch would pull a minimum down for the rest of the run, and a mean follows the
  spike that it is to show.
- The lowest so far, because a run that climbs slowly takes its own running median along; so a divergence
  counts with its whole height, however slow.
- After warm-up, the first tenth of the run, because at first the loss moves by whole nats under any setting.
- A loss that is not finite is the largest spike there is, wherever it stands, also in warm-up.

Batches differ, so a calm run has spikes too: those of a float twin on the same batches are the floor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

WINDOW = 20  # steps


@dataclass(frozen=True)
class Spike:
    """`size` in the loss's unit, infinite where a loss was not finite, 0.0 if no loss stood above what came
    before; `step` counts from 1, None without a spike."""

    size: float
    step: int | None


def warmup_of(steps: int) -> int:
    """Steps of a run's beginning that are not judged: a tenth, and at least one window."""
    return max(steps // 10, WINDOW)


def largest_spike(losses: Sequence[float | None], warmup: int | None = None, window: int = WINDOW) -> Spike:
    """The largest spike of the losses of steps 1, 2, ...; None and NaN are losses that are not finite.

    `warmup` steps are not judged, those of `warmup_of` if not given. Raises ValueError for a window that
    holds nothing, or a warm-up shorter than the window: the first step would have too little before it.
    """
    warmup = warmup_of(len(losses)) if warmup is None else warmup
    if not 1 <= window <= warmup:
        raise ValueError(f"window {window}, warm-up {warmup}: expected 1 <= window <= warm-up")
    finite: list[float] = []
    for step, loss in enumerate(losses, start=1):
        if loss is None or not math.isfinite(loss):
            return Spike(math.inf, step)
        finite.append(loss)
    lowest, largest = math.inf, Spike(0.0, None)
    for place in range(window, len(finite)):
        lowest = min(lowest, median(finite[place - window : place]))
        if place >= warmup and finite[place] - lowest > largest.size:
            largest = Spike(finite[place] - lowest, place + 1)
    return largest


def thinned(
    losses: Sequence[float | None], points: int = 100
) -> list[tuple[int, float | None, float | None]]:
    """The curve in at most `points` pieces: last step, median and highest loss of each; None and None where
    one is not finite."""
    length = max(-(-len(losses) // points), 1)
    pieces: list[tuple[int, float | None, float | None]] = []
    for start in range(0, len(losses), length):
        piece = losses[start : start + length]
        finite = [loss for loss in piece if loss is not None and math.isfinite(loss)]
        whole = len(finite) == len(piece)
        pieces.append((start + len(piece), median(finite) if whole else None, max(finite) if whole else None))
    return pieces
