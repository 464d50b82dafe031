"""The learning rate of integer votes (section 8)."""

from __future__ import annotations


def scheduled_gain(gain: int, done: int, total: int) -> int:
    """gain0 * max(0.02, min(1, (1 - done/total)/0.4)) in integers: constant for 60 % of the run, then linear
    (ARB-SCHED-001)."""
    return gain * max(2 * total, min(100 * total, 250 * (total - done))) // (100 * total)
