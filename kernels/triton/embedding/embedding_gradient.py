"""Sums of gradient rows by token; integers, so the order of the additions is free (ARB-EMB-003)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...checks import check_tokens
from ...layout import row_major
from ..launch import block_of, blocks, pick, require_device
from .embedding_forward import load_tokens

TOKENS, COLUMNS = pick(4, 1024), pick(256, 1024)


@triton.jit(do_not_specialize=["count"])
def embedding_gradient_kernel(
    tokens,
    q,
    gradient,
    touched,
    count,
    rows,
    columns,
    TOKENS: tl.constexpr,
    COLUMNS: tl.constexpr,
    MARK: tl.constexpr,
):
    """gradient int32 [V, D], 0 before, gets the rows q by token; MARK: touched int32 [V] gets 1 for each."""
    across = blocks(columns, COLUMNS)
    t = tl.program_id(0) // across * TOKENS + tl.arange(0, TOKENS)
    c = (tl.program_id(0) % across).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    row = load_tokens(tokens, t, count, rows)
    inside = (t < count)[:, None] & (c < columns)
    values = tl.load(q + t.to(tl.int64)[:, None] * columns + c, mask=inside, other=0).to(tl.int32)
    tl.atomic_add(gradient + row[:, None] * columns + c, values, mask=inside, sem="relaxed")
    if MARK:
        # every program that has this row writes the same value
        tl.store(touched + row, row * 0 + 1, mask=t < count)


def gradient_and_touched(
    tokens: torch.Tensor, q: torch.Tensor, rows: int, mark: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """G int32 [V, D], and int32 [V] with 1 for the rows that occur if `mark` (else G again)."""
    tokens, q = row_major(tokens), row_major(q)
    count, columns = q.shape
    gradient = torch.zeros(rows, columns, dtype=torch.int32, device=q.device)
    touched = torch.zeros(rows, dtype=torch.int32, device=q.device) if mark else gradient
    tile_tokens, tile_columns = block_of(count, 1, TOKENS), block_of(columns, 16, COLUMNS)
    grid = (triton.cdiv(count, tile_tokens) * triton.cdiv(columns, tile_columns),)
    embedding_gradient_kernel[grid](
        tokens,
        q,
        gradient,
        touched,
        count,
        rows,
        columns,
        TOKENS=tile_tokens,
        COLUMNS=tile_columns,
        MARK=mark,
        debug=True,  # keeps the assertion
        sanitize_overflow=False,
    )
    return gradient, touched


def embedding_gradient(tokens: torch.Tensor, q: torch.Tensor, rows: int) -> torch.Tensor:
    """tokens int64 [T], q int8 [T, D] -> G int32 [V, D]. Raises ValueError for a bad token."""
    require_device("embedding_gradient", tokens)
    check_tokens(tokens, rows)
    return gradient_and_touched(tokens, q, rows, mark=False)[0]
