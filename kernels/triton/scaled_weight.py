"""w^ = trit << (e - e_base) as int8 in memory, in the layout that a product reads (section 5).

A quarter byte and its exponent become one byte a weight, once a call: at 4,096 tokens that is a few percent
of the product's time, and the product then runs at the speed of plain int8 operands. Few tokens go through
`linear_forward`'s own kernel, which reads the packed codes alone.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .codes import decode
from .launch import empty_rows

ROWS, BYTES = 32, 32  # a tile: 32 x 128 weights


@triton.jit
def scaled_weight_kernel(
    codes,
    exponents,
    out,
    rows,
    columns,
    code_bytes,
    groups,
    group_size,
    e_base,
    row_stride,
    column_stride,
    ROWS: tl.constexpr,
    BYTES: tl.constexpr,
    TRANSPOSED: tl.constexpr,
):
    """out[o, i] (or its transpose's memory) = trit << (e - e_base), one tile a program."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    byte = tl.program_id(1) * BYTES + tl.arange(0, BYTES)
    column = tl.program_id(1) * BYTES * 4 + tl.arange(0, BYTES * 4)
    packed = tl.load(
        codes + row.to(tl.int64)[:, None] * code_bytes + byte[None, :],
        mask=(row < rows)[:, None] & (byte < code_bytes)[None, :],
        other=0x55,
    )
    inside = (row < rows)[:, None] & (column < columns)[None, :]
    e = tl.load(
        exponents + row.to(tl.int64)[:, None] * groups + (column // group_size)[None, :],
        mask=inside,
        other=e_base,
    )
    weight = (decode(packed) << (e.to(tl.int32) - e_base)).to(tl.int8)
    places = row.to(tl.int64)[:, None] * row_stride + column.to(tl.int64)[None, :] * column_stride
    if TRANSPOSED:
        tl.store(out + tl.trans(places), tl.trans(weight), mask=tl.trans(inside))
    else:
        tl.store(out + places, weight, mask=inside)


def scaled_weight(
    codes: torch.Tensor, e: torch.Tensor, e_base: int, group_size: int, columns: int, transposed: bool
) -> torch.Tensor:
    """codes uint8 [O, ceil(I/4)], e int8 [O, G] -> w^ int8 [O, I], or [I, O] if transposed; rows aligned."""
    codes, e = codes.contiguous(), e.contiguous()
    rows = codes.shape[0]
    out = empty_rows(*((columns, rows) if transposed else (rows, columns)), codes.device)
    strides = (1, out.stride(0)) if transposed else (out.stride(0), 1)
    grid = (triton.cdiv(rows, ROWS), triton.cdiv(codes.shape[1], BYTES))
    scaled_weight_kernel[grid](
        codes,
        e,
        out,
        rows,
        columns,
        codes.shape[1],
        e.shape[1],
        group_size,
        e_base,
        *strides,
        ROWS=ROWS,
        BYTES=BYTES,
        TRANSPOSED=transposed,
        num_warps=4,
    )
    return out
