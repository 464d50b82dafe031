"""Rows of the table by token (ARB-EMB-001)."""

from __future__ import annotations

import torch

from .codes import decode
from .exponents import power_of_two


def check_tokens(tokens: torch.Tensor, rows: int) -> None:
    """Refuse a token outside the table. On CUDA the gather itself asserts, so that nothing waits for the
    device."""
    if tokens.is_cuda:
        return
    illegal = ((tokens < 0) | (tokens >= rows)).nonzero()
    if len(illegal):
        place = int(illegal[0])
        raise ValueError(f"tokens[{place}] = {tokens[place].item()}, expected 0..{rows - 1}")


def embedding_forward(
    tokens: torch.Tensor, codes: torch.Tensor, e: torch.Tensor, group_size: int, columns: int
) -> torch.Tensor:
    """tokens int64 [T], codes uint8 [V, ceil(D/4)], e int8 [V, G] -> y float32 [T, D]. Raises ValueError for
    a bad token."""
    check_tokens(tokens, codes.shape[0])
    scale = power_of_two(e[tokens].to(torch.int32)).repeat_interleave(group_size, dim=1)[:, :columns]
    return decode(codes[tokens], columns).float() * scale
