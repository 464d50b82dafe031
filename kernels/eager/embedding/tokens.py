"""Tokens beside their table, on every device (ARB-EMB-001)."""

from __future__ import annotations

import torch

from ...checks import check_tokens


def refuse_outside(tokens: torch.Tensor, rows: int) -> None:
    """Raises ValueError for a token outside a table of so many rows; on CUDA the device asserts, and nothing
    waits for it."""
    check_tokens(tokens, rows)
    if tokens.is_cuda:
        # torch's own kernels read the low 32 bits of an index before they look at it: 2^32 would be row 0
        torch._assert_async(((tokens >= 0) & (tokens < rows)).all())
