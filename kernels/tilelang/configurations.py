"""Every way in which the host code of this backend may run an operation; all give the same bits.

Products have one tile. The forward product reads packed codes, in one of two ways, or unpacked weights, by
the number of tokens; the update of a linear layer is one kernel or two steps, by device and group size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..plugins.capabilities import everything, product_tiles
from .linear.few_tokens import few_tokens
from .linear.gemm import BLOCK_K, BLOCK_M, BLOCK_N
from .linear.linear_forward import linear_forward, unpacked_forward
from .linear.token_tile import TOKENS, token_tile
from .linear.weight_gradient import weight_gradient
from .update.linear_update import linear_update
from .update.ternary_update import ternary_update

# on CUDA; target "c" goes row by row
TILE = (BLOCK_M, BLOCK_N, BLOCK_K)
CAPABILITIES = everything("tilelang", product_tiles(TILE, TILE))

Way = Callable[..., Any]


def _two_steps(q_g: Any, e_g: Any, q_x: Any, *state_and_how: Any) -> Any:
    return ternary_update(weight_gradient(q_g, q_x), e_g, *state_and_how)


def _token_tile(q_x: Any, *rest: Any) -> Any:
    """Where there are too many tokens, the host's choice."""
    return (token_tile if len(q_x) <= TOKENS[-1] else linear_forward)(q_x, *rest)


def configurations(device: str) -> dict[str, dict[str, Way]]:
    """operation: {name of a way: function with the operation's arguments}, for arrays on that type of device.

    There is nothing to choose on the CPU.
    """
    if device != "cuda":
        return {}
    return {
        "linear_forward": {
            "few tokens": few_tokens,
            "token tile": _token_tile,
            "unpacked": unpacked_forward,
        },
        "linear_update": {"fused": linear_update, "two steps": _two_steps},
    }
