"""Settings of the update, and the learning rate of its votes (sections 6 and 8)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from arbitor.kernels.operations import RULES, SCALAR_RANGES

Q16, Q8 = 1 << 16, 1 << 8  # 1.0
MOST_RATE = (1 << 16) - 1
COOLDOWN = 80  # %, of a run whose settings say nothing else


@dataclass(frozen=True)
class UpdateRule:
    """Settings of the update (section 6); gains are Q16 integers, `rate`, which is a layer's own, Q8.

    Raises ValueError for a value out of range and TypeError for one that is no int: an update would meet it
    when other modules have changed already.
    """

    rule: str = "adaptive"
    gain: int = 4 << 16
    vote_max: int = 16
    accum_threshold: int = 32
    scale_gain: int = 1 << 11
    e_accum_threshold: int = 32
    rate: int = Q8

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name == "rule":
                if value not in RULES:
                    raise ValueError(f"rule must be one of {', '.join(RULES)}, got {value!r}")
                continue
            check_setting(name, value)


def check_setting(name: str, value: Any) -> None:
    """Refuse what is no int (TypeError) or out of the range of that setting (ValueError)."""
    lowest, highest = (0, MOST_RATE) if name == "rate" else SCALAR_RANGES[name]
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
    known = UpdateRule.__dataclass_fields__.keys()
    if isinstance(found, dict) and known - found.keys() == {"rate"}:
        raise ValueError(f"settings of {prefix[:-1]} are of specification 1, expected those of version 2")
    if not isinstance(found, dict) or found.keys() != known:
        raise ValueError(f"settings of {prefix[:-1]} are {found!r}, expected {[*vars(UpdateRule())]}")
    return UpdateRule(**found)


def scheduled_gain(gain: int, done: int, total: int, cooldown: int = COOLDOWN) -> int:
    """gain0 until the last `cooldown` % of the run, then linear to 2 %, in integers (ARB-SCHED-001)."""
    share = max(2 * total * cooldown, min(100 * total * cooldown, 10_000 * (total - done)))
    return gain * share // (100 * total * cooldown)


def scheduled_scale_gain(gain: int, done: int, total: int) -> int:
    """gain0 * max(0, 1 - (done/total)/0.6) in integers: linear to 0 at 60 % of the run (ARB-SCHED-002)."""
    return gain * max(0, 60 * total - 100 * done) // (60 * total)


def rated(gain: int, rate: int) -> int:
    """The gain of a layer of that rate (ARB-SCHED-003)."""
    return min(gain * rate >> 8, SCALAR_RANGES["gain"][1])


def clipped(gain: int, squared_votes: int, usual: int) -> int:
    """The gain that sums A and B of squared votes leave (ARB-CLIP-002)."""
    return gain if squared_votes <= usual else math.isqrt(gain * gain * usual // squared_votes)


def fixed_point(name: str, value: float, one: int, highest: int) -> int:
    """A number as an integer in units of 1/one. Raises ValueError for what is none in 0..highest, in these
    units, or is so small that it would be 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value * one <= highest:
        raise ValueError(f"{name} must be a number in 0..{highest / one:g}, got {value!r}")
    found = round(value * one)
    if value and not found:
        raise ValueError(f"{name} is in steps of 1/{one}, so {value!r} would be 0: say 0, or more")
    return found


def check_cooldown(value: int) -> None:
    """Refuse what is no percentage in 1..100. Raises ValueError."""
    if type(value) is not int or not 1 <= value <= 100:
        raise ValueError(f"cooldown must be an integer in 1..100, got {value!r}")
