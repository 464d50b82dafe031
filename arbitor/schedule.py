"""The learning rate of integer votes (section 8)."""

from __future__ import annotations


def scheduled_gain(gain: int, done: int, total: int) -> int:
    """gain0 * max(0.02, min(1, (1 - done/total)/0.4)) in integers: constant for 60 % of the run, then linear
    (ARB-SCHED-001)."""
    return gain * max(2 * total, min(100 * total, 250 * (total - done))) // (100 * total)


def scheduled_scale_gain(gain: int, done: int, total: int) -> int:
    """gain0 * max(0, 1 - (done/total)/0.6) in integers: linear to 0 at 60 % of the run (ARB-SCHED-002)."""
    return gain * max(0, 60 * total - 100 * done) // (60 * total)
