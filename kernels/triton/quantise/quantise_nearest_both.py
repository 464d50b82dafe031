"""Rows to int8, rounded to nearest, in both layouts (ARB-QUANT-011): the forward product reads q, the weight
gradient's product reads q_t, which runs over the tokens.

Rows of up to SHORT_ROW columns stay in registers, as in quantise_nearest, and leave in both layouts. Longer
rows are quantised by the kernels of quantise_nearest, and q, a quarter of x, is transposed from L2.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...layout import row_major
from ..launch import block_of, blocks, empty_rows, pick, require_device
from .exponents import exponent_of, magnitude
from .quantise_nearest import quantise_rows, rounded

SHORT_ROW = 1024
ROWS = 32  # a whole sector of memory in a row of q_t


@triton.jit
def store_transposed(out, tile, r, c, columns, stride):
    """out[c, r] = tile[r, c]; the rows of `out` have `stride` elements, a multiple of 16.

    The padding is written as well, so that no vector of 16 bytes is cut.
    """
    places = c.to(tl.int64)[:, None] * stride + r[None, :]
    tl.store(out + places, tl.trans(tile), mask=(c < columns)[:, None] & (r < stride)[None, :])


@triton.jit(do_not_specialize=["rows"])
def both_layouts_kernel(
    x, q, q_t, exponents, rows, columns, stride_t, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    """q [R, C], q_t [C, R] and exponents [R] of ROWS rows; BLOCK >= C."""
    r = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    c = tl.arange(0, BLOCK)
    places = r[:, None] * columns + c[None, :]
    inside = (r < rows)[:, None] & (c < columns)[None, :]
    values = tl.load(x + places, mask=inside, other=0.0)
    e = exponent_of(tl.max(magnitude(values), axis=1))
    tl.store(exponents + r, e.to(tl.int8), mask=r < rows)
    found = rounded(values, e[:, None], r, 0, columns, 0, 0, 0, 0, ROUNDING=0)
    tl.store(q + places, found, mask=inside)
    store_transposed(q_t, found, r, c, columns, stride_t)


@triton.jit(do_not_specialize=["rows"])
def transpose_kernel(q, q_t, rows, columns, stride_t, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """q_t [C, R] from q [R, C], one tile a program."""
    across = blocks(columns, COLUMNS)
    r = (tl.program_id(0) // across).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    c = (tl.program_id(0) % across).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (r < rows)[:, None] & (c < columns)[None, :]
    tile = tl.load(q + r[:, None] * columns + c[None, :], mask=inside, other=0)
    store_transposed(q_t, tile, r, c, columns, stride_t)


def _from_memory(x: torch.Tensor, q_t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """q and exponents of long rows; q_t is written from q."""
    q, exponents = quantise_rows(x)
    rows, columns = q.shape
    tile_rows, tile_columns = 128, pick(128, 4096)
    grid = (triton.cdiv(rows, tile_rows) * triton.cdiv(columns, tile_columns),)
    transpose_kernel[grid](
        q, q_t, rows, columns, q_t.stride(0), ROWS=tile_rows, COLUMNS=tile_columns, num_warps=8
    )
    return q, exponents


def quantise_nearest_both(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x float32 [R, C] -> q int8 [R, C], q_t int8 [C, R], e int8 [R]; 127 marks a row that is not finite.

    The rows of q_t are on 16-byte boundaries.
    """
    require_device("quantise_nearest_both", x)
    x = row_major(x)
    rows, columns = x.shape
    q_t = empty_rows(columns, rows, x.device)
    if columns > SHORT_ROW:
        q, exponents = _from_memory(x, q_t)
        return q, q_t, exponents
    q = torch.empty(rows, columns, dtype=torch.int8, device=x.device)
    exponents = torch.empty(rows, dtype=torch.int8, device=x.device)
    block = block_of(columns, 16, SHORT_ROW)
    both_layouts_kernel[(triton.cdiv(rows, ROWS),)](
        x,
        q,
        q_t,
        exponents,
        rows,
        columns,
        q_t.stride(0),
        ROWS=ROWS,
        BLOCK=block,
        num_warps=max(4, block // 64),  # 64 elements a thread
    )
    return q, q_t, exponents
