"""Settings of the update, and the learning rate of its votes (sections 6 and 8)."""

from __future__ import annotations

from dataclasses import dataclass

from arbitor.kernels.operations import RULES, SCALAR_RANGES


@dataclass(frozen=True)
class UpdateRule:
    """Settings of the update (section 6); gains are Q16 integers, 65536 is 1.0.

    Raises ValueError for a value out of range and TypeError for one that is no int: an update would meet it
    when other modules have changed already.
    """

    rule: str = "scaled"
    gain: int = 3 << 16
    vote_max: int = 16
    accum_threshold: int = 32
    scale_gain: int = 1 << 14
    e_accum_threshold: int = 32

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name == "rule":
                if value not in RULES:
                    raise ValueError(f"rule must be one of {', '.join(RULES)}, got {value!r}")
                continue
            lowest, highest = SCALAR_RANGES[name]
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} must be an int, got {type(value).__name__}")
            if not lowest <= value <= highest:
                raise ValueError(f"{name} must be in {lowest}..{highest}, got {value}")


def scheduled_gain(gain: int, done: int, total: int) -> int:
    """gain0 * max(0.02, min(1, (1 - done/total)/0.4)) in integers: constant for 60 % of the run, then linear
    (ARB-SCHED-001)."""
    return gain * max(2 * total, min(100 * total, 250 * (total - done))) // (100 * total)


def scheduled_scale_gain(gain: int, done: int, total: int) -> int:
    """gain0 * max(0, 1 - (done/total)/0.6) in integers: linear to 0 at 60 % of the run (ARB-SCHED-002)."""
    return gain * max(0, 60 * total - 100 * done) // (60 * total)
