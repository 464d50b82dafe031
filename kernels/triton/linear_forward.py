"""y = x W^T on quantised activations and packed trits (ARB-LIN-001, -003, -004).

Many tokens: w^ is unpacked once and the product runs on int8. Few tokens: the time is that of reading the
weights, so the codes are read packed and unpacked in registers, and the weights are the tall operand: the
matrix units want at least 64 rows of it, the tokens are its 16 or 32 columns.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .codes import decode
from .gemm import gemm
from .launch import float_overflow, require_device
from .scaled_weight import scaled_weight

FEW = 32  # tokens
BLOCK_O, BLOCK_BYTES = 64, 32  # 64 x 128 weights


@triton.jit
def few_tokens_kernel(
    q_x,
    e_x,
    codes,
    exponents,
    y,
    tokens,
    rows,
    columns,
    token_stride,
    code_bytes,
    groups,
    group_size,
    e_base,
    BLOCK_O: tl.constexpr,
    BLOCK_BYTES: tl.constexpr,
    BLOCK_T: tl.constexpr,
    ONE_GROUP: tl.constexpr,
):
    """y [T, O], T <= BLOCK_T; BLOCK_O rows of W a program. ONE_GROUP: a block of columns is in one group."""
    row = tl.program_id(0) * BLOCK_O + tl.arange(0, BLOCK_O)
    token = tl.arange(0, BLOCK_T)
    total = tl.zeros((BLOCK_O, BLOCK_T), dtype=tl.int32)
    for start in range(0, code_bytes, BLOCK_BYTES):
        byte = start + tl.arange(0, BLOCK_BYTES)
        packed = tl.load(
            codes + row.to(tl.int64)[:, None] * code_bytes + byte[None, :],
            mask=(row < rows)[:, None] & (byte < code_bytes)[None, :],
            other=0x55,
        )
        column = start * 4 + tl.arange(0, BLOCK_BYTES * 4)
        if ONE_GROUP:
            e = tl.load(exponents + row * groups + start * 4 // group_size, mask=row < rows, other=e_base)[
                :, None
            ]
        else:
            e = tl.load(
                exponents + row[:, None] * groups + (column // group_size)[None, :],
                mask=(row < rows)[:, None] & (column < columns)[None, :],
                other=e_base,
            )
        weight = (decode(packed) << (e.to(tl.int32) - e_base)).to(tl.int8)
        x = tl.load(
            q_x + column[:, None] + token[None, :] * token_stride,
            mask=(column < columns)[:, None] & (token < tokens)[None, :],
            other=0,
        )
        total = tl.dot(weight, x, total, out_dtype=tl.int32)
    e = tl.load(e_x + token, mask=token < tokens, other=0).to(tl.int32)
    scale = ((tl.minimum(e + e_base, 127) + 127) << 23).to(tl.float32, bitcast=True)
    found = (total.to(tl.float32) * scale[None, :]).to(tl.int32, bitcast=True)
    found = tl.where((e == 127)[None, :], 0x7FC00000, found).to(tl.float32, bitcast=True)
    tl.store(
        y + token[None, :] * rows + row[:, None],
        found,
        mask=(row < rows)[:, None] & (token < tokens)[None, :],
    )


def _few_tokens(
    q_x: torch.Tensor, e_x: torch.Tensor, codes: torch.Tensor, e: torch.Tensor, e_base: int, group_size: int
) -> torch.Tensor:
    q_x, codes, e = q_x.contiguous(), codes.contiguous(), e.contiguous()
    (tokens, columns), rows = q_x.shape, codes.shape[0]
    y = torch.empty(tokens, rows, dtype=torch.float32, device=q_x.device)
    with float_overflow():
        few_tokens_kernel[(triton.cdiv(rows, BLOCK_O),)](
            q_x,
            e_x.contiguous(),
            codes,
            e,
            y,
            tokens,
            rows,
            columns,
            columns,
            codes.shape[1],
            e.shape[1],
            group_size,
            e_base,
            BLOCK_O=BLOCK_O,
            BLOCK_BYTES=BLOCK_BYTES,
            BLOCK_T=max(16, triton.next_power_of_2(tokens)),
            ONE_GROUP=group_size % (4 * BLOCK_BYTES) == 0,
            num_warps=4,
            num_stages=4,
        )
    return y


def linear_forward(
    q_x: torch.Tensor,
    e_x: torch.Tensor,
    codes: torch.Tensor,
    e: torch.Tensor,
    e_base: int,
    e_span: int,
    group_size: int,
) -> torch.Tensor:
    """q_x int8 [T, I], e_x int8 [T], codes uint8 [O, ceil(I/4)], e int8 [O, G] -> y float32 [T, O]."""
    require_device("linear_forward", q_x)
    if q_x.shape[0] <= FEW:
        return _few_tokens(q_x, e_x, codes, e, e_base, group_size)
    weight = scaled_weight(codes, e, e_base, group_size, q_x.shape[1], transposed=False)
    return gemm(q_x, weight, e_x, e_base)
