"""Every way in which the host code of this backend may run an operation; all give the same bits.

Products have one tile. The update of a linear layer is one kernel or two steps, by device and group size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .linear_update import linear_update
from .ternary_update import ternary_update
from .weight_gradient import weight_gradient

Way = Callable[..., Any]


def _two_steps(q_g: Any, q_x: Any, *state_and_how: Any) -> Any:
    return ternary_update(weight_gradient(q_g, q_x), *state_and_how)


def configurations(device: str) -> dict[str, dict[str, Way]]:
    """operation: {name of a way: function with the operation's arguments}, for arrays on that type of device.

    There is nothing to choose on the CPU.
    """
    if device != "cuda":
        return {}
    return {"linear_update": {"fused": linear_update, "two steps": _two_steps}}
