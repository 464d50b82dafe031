"""Settings of the update, and the learning rate of its votes (sections 6 and 8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from arbitor.kernels.operations import RULES, SCALAR_RANGES

Q16 = 1 << 16  # 1.0


@dataclass(frozen=True)
class UpdateRule:
    """Settings of the update (section 6); gains are Q16 integers.

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


def settings_in(metadata: Mapping[str, Any], prefix: str) -> UpdateRule | None:
    """The settings that came with the state of a module, if some did (ARB-RUN-016). Raises ValueError or
    TypeError."""
    found = metadata.get("settings")
    if found is None:
        return None
    if not isinstance(found, dict) or found.keys() != UpdateRule.__dataclass_fields__.keys():
        raise ValueError(f"settings of {prefix[:-1]} are {found!r}, expected {[*vars(UpdateRule())]}")
    return UpdateRule(**found)


def scheduled_gain(gain: int, done: int, total: int) -> int:
    """gain0 * max(0.02, min(1, (1 - done/total)/0.4)) in integers: constant for 60 % of the run, then linear
    (ARB-SCHED-001)."""
    return gain * max(2 * total, min(100 * total, 250 * (total - done))) // (100 * total)


def scheduled_scale_gain(gain: int, done: int, total: int) -> int:
    """gain0 * max(0, 1 - (done/total)/0.6) in integers: linear to 0 at 60 % of the run (ARB-SCHED-002)."""
    return gain * max(0, 60 * total - 100 * done) // (60 * total)
