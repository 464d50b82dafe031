"""More tokens than a call of an operation takes: forwards in several calls, the gradient of a large update.

Cutting changes no bit. Rows do not depend on each other (ARB-LIN-008), and a sum of integers in 64 bits is
exact whatever its parts (ARB-LIN-007).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from arbitor.kernels.operations import MAX_SUMMED_TOKENS, MAX_TOKENS
from arbitor.kernels.registry import Backend

from ..ranks import Ranks

SHIFT = 3  # 2^20 * 127 * 127 >> 3 is an int32, rounded
ALIGNMENT = 16  # tokens: what kernels want rows of transposed operands to start at


def check_tokens(label: str, tokens: int) -> None:
    """Refuse a backward after which an update of the module would have so many tokens, over all calls and
    ranks. Raises ValueError."""
    if tokens > MAX_TOKENS:
        raise ValueError(f"{label}: an update is of at most {MAX_TOKENS} tokens, got {tokens}")


def by_rows(call: Callable[..., torch.Tensor], *rows: torch.Tensor) -> torch.Tensor:
    """`call(*rows)` for tensors [T, ...] of any T, from calls that an operation takes."""
    if len(rows[0]) <= MAX_TOKENS:
        return call(*rows)
    return torch.cat([call(*parts) for parts in zip(*(each.split(MAX_TOKENS) for each in rows), strict=True)])


def weight_gradient(
    backend: Backend, q_g: torch.Tensor, q_x: torch.Tensor, ranks: Ranks | None = None
) -> torch.Tensor:
    """G of an update from this rank's q_g int8 [T, O] and q_x int8 [T, I], as many on each -> int32 [O, I]
    (ARB-LIN-007, ARB-RANK-003)."""
    if not in_parts(len(q_g), ranks):
        gradient: torch.Tensor = backend.weight_gradient(q_g, q_x)
        return gradient if ranks is None else ranks.sum(gradient)
    total = torch.zeros(q_g.shape[1], q_x.shape[1], dtype=torch.int64, device=q_g.device)
    size = MAX_SUMMED_TOKENS // ALIGNMENT * ALIGNMENT
    for part_g, part_x in zip(q_g.split(size), q_x.split(size), strict=True):
        total += backend.weight_gradient(part_g, part_x)
    if ranks is not None:
        total = ranks.sum(total)
    return ((total + (1 << SHIFT - 1)) >> SHIFT).to(torch.int32)


def in_parts(tokens: int, ranks: Ranks | None) -> bool:
    """Whether so many tokens on each rank are more than one sum in int32 may have."""
    return tokens * (1 if ranks is None else ranks.size) > MAX_SUMMED_TOKENS
