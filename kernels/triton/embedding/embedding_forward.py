"""Rows of the table by token (ARB-EMB-001)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...checks import check_tokens
from ...layout import row_major
from ..launch import block_of, blocks, pick, require_device
from ..packing.codes import decode
from ..quantise.exponents import power_of_two

TOKENS, BYTES = pick(4, 1024), pick(128, 256)


@triton.jit
def load_tokens(tokens, t, count, rows):
    """int64 tokens at t, 0 outside the call; one outside the table ends in the device's assertion."""
    token = tl.load(tokens + t, mask=t < count, other=0)
    tl.device_assert((token >= 0) & (token < rows), "token outside the table")
    return token


@triton.jit(do_not_specialize=["count"])
def embedding_forward_kernel(
    tokens,
    codes,
    exponents,
    y,
    count,
    rows,
    columns,
    code_bytes,
    GROUP_SIZE: tl.constexpr,
    TOKENS: tl.constexpr,
    BYTES: tl.constexpr,
):
    """y [T, D], one tile a program."""
    across = blocks(code_bytes, BYTES)
    t = tl.program_id(0) // across * TOKENS + tl.arange(0, TOKENS)
    first = (tl.program_id(0) % across).to(tl.int64) * BYTES
    b = first + tl.arange(0, BYTES)[None, :]
    c = first * 4 + tl.arange(0, BYTES * 4)[None, :]
    row = load_tokens(tokens, t, count, rows)[:, None]
    inside = (t < count)[:, None] & (c < columns)
    packed = tl.load(codes + row * code_bytes + b, mask=(t < count)[:, None] & (b < code_bytes), other=0x55)
    e = tl.load(exponents + row * blocks(columns, GROUP_SIZE) + c // GROUP_SIZE, mask=inside, other=0)
    weight = decode(packed).to(tl.float32) * power_of_two(e.to(tl.int32))
    tl.store(y + t.to(tl.int64)[:, None] * columns + c, weight, mask=inside)


def embedding_forward(
    tokens: torch.Tensor, codes: torch.Tensor, e: torch.Tensor, group_size: int, columns: int
) -> torch.Tensor:
    """tokens int64 [T], codes uint8 [V, ceil(D/4)], e int8 [V, G] -> y float32 [T, D]. Raises ValueError for
    a bad token."""
    require_device("embedding_forward", tokens)
    check_tokens(tokens, codes.shape[0])
    tokens, codes, e = row_major(tokens), row_major(codes), row_major(e)
    count, (rows, code_bytes) = len(tokens), codes.shape
    y = torch.empty(count, columns, dtype=torch.float32, device=tokens.device)
    tile_tokens, tile_bytes = block_of(count, 1, TOKENS), block_of(code_bytes, 4, BYTES)
    grid = (triton.cdiv(count, tile_tokens) * triton.cdiv(code_bytes, tile_bytes),)
    embedding_forward_kernel[grid](
        tokens,
        codes,
        e,
        y,
        count,
        rows,
        columns,
        code_bytes,
        GROUP_SIZE=group_size,
        TOKENS=tile_tokens,
        BYTES=tile_bytes,
        debug=True,  # keeps the assertion
        sanitize_overflow=False,
    )
    return y
