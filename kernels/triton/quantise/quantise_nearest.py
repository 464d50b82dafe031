"""Rows to int8, rounded to nearest (ARB-QUANT-004, -008), and the kernels that both kinds of rounding share.

A row of up to WHOLE_ROW elements stays in registers and is read once, several rows a program. Longer ones
(an embedding's gradient is one row) are read twice by several programs a row: the largest magnitude, then q.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...layout import row_major
from ..launch import block_of, blocks, pick, require_device
from ..random_bits.generator import r16_rows
from .exponents import exponent_of, fraction, magnitude

WHOLE_ROW = 8192
TILE = pick(4096, 65536)  # elements a program, where rows are shorter
PART = pick(4096, 65536)  # of a longer row
NEAREST, SINGLY, IN_QUADS = 0, 1, 2  # rounding; the random bits one by one or four at a time


@triton.jit
def rounded(x, e, row, first, columns, step, stream, key_low, key_high, ROUNDING: tl.constexpr):
    """int8 [R, B] of the columns from `first` of rows int64 [R]; e broadcasts to [R, B]."""
    f = fraction(x, e)
    if ROUNDING == 0:
        f += 32768
    else:
        f += r16_rows(row, first, columns, step, stream, key_low, key_high, x.shape[1], ROUNDING == 2)
    return (f >> 16).to(tl.int8)


@triton.jit(do_not_specialize=["rows", "first_row", "step", "stream", "key_low", "key_high"])
def whole_rows_kernel(
    x,
    q,
    exponents,
    rows,
    columns,
    first_row,
    step,
    stream,
    key_low,
    key_high,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    ROUNDING: tl.constexpr,
):
    """q [R, C] and exponents [R] of ROWS rows; BLOCK >= C."""
    r = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    c = tl.arange(0, BLOCK)
    places = r[:, None] * columns + c[None, :]
    inside = (r < rows)[:, None] & (c < columns)[None, :]
    values = tl.load(x + places, mask=inside, other=0.0)
    e = exponent_of(tl.max(magnitude(values), axis=1))
    row = first_row.to(tl.int64) + r
    found = rounded(values, e[:, None], row, 0, columns, step, stream, key_low, key_high, ROUNDING)
    tl.store(q + places, found, mask=inside)
    tl.store(exponents + r, e.to(tl.int8), mask=r < rows)


@triton.jit
def part_of_row(columns, PART: tl.constexpr):
    """Row of a program, the first of its columns, where they start in memory, all int64; their number."""
    parts = blocks(columns, PART)
    row = (tl.program_id(0) // parts).to(tl.int64)
    first = (tl.program_id(0) % parts).to(tl.int64) * PART
    return row, first, row * columns + first, tl.minimum(columns - first, PART).to(tl.int32)


@triton.jit
def largest_kernel(x, largest, columns, PART: tl.constexpr):
    """largest int32 [R], 0 before: magnitude bits of each row's largest element."""
    row, _, start, width = part_of_row(columns, PART)
    c = tl.arange(0, PART)
    values = tl.load(x + start + c, mask=c < width, other=0.0)
    tl.atomic_max(largest + row, tl.max(magnitude(values), axis=0), sem="relaxed")


@triton.jit(do_not_specialize=["first_row", "step", "stream", "key_low", "key_high"])
def long_rows_kernel(
    x,
    largest,
    q,
    exponents,
    columns,
    first_row,
    step,
    stream,
    key_low,
    key_high,
    PART: tl.constexpr,
    ROUNDING: tl.constexpr,
):
    """q [R, C] and exponents [R], PART elements of a row a program."""
    row, first, start, width = part_of_row(columns, PART)
    c = tl.arange(0, PART)[None, :]
    values = tl.load(x + start + c, mask=c < width, other=0.0)
    e = exponent_of(tl.load(largest + row))
    rows = tl.full((1,), first_row + row, tl.int64)
    found = rounded(values, e, rows, first, columns, step, stream, key_low, key_high, ROUNDING)
    tl.store(q + start + c, found, mask=c < width)
    if first == 0:
        tl.store(exponents + row, e.to(tl.int8))


def warps_of(block: int, singly: bool) -> int:
    """Warps of a program of `whole_rows_kernel`."""
    return max(block // (512 if singly else 1024), 4)


def quantise_rows(
    x: torch.Tensor,
    random: tuple[int, int, int, int] = (0, 0, 0, 0),
    first_row: int = 0,
    rounding: int = NEAREST,
) -> tuple[torch.Tensor, torch.Tensor]:
    """x float32 [R, C] -> q int8 [R, C], e int8 [R]."""
    x = row_major(x)
    rows, columns = x.shape
    q = torch.empty(rows, columns, dtype=torch.int8, device=x.device)
    exponents = torch.empty(rows, dtype=torch.int8, device=x.device)
    if columns <= WHOLE_ROW:
        block = block_of(columns, 16, WHOLE_ROW)
        # drawn one by one, random bits take four times the registers
        singly = rounding == SINGLY
        tile = TILE // 4 if singly else TILE
        tile_rows = block_of(rows, 1, max(tile // block, 1))
        whole_rows_kernel[(triton.cdiv(rows, tile_rows),)](
            x,
            q,
            exponents,
            rows,
            columns,
            first_row,
            *random,
            ROWS=tile_rows,
            BLOCK=block,
            ROUNDING=rounding,
            num_warps=warps_of(block, singly),
        )
        return q, exponents
    largest = torch.zeros(rows, dtype=torch.int32, device=x.device)
    grid = (rows * triton.cdiv(columns, PART),)
    largest_kernel[grid](x, largest, columns, PART=PART)
    long_rows_kernel[grid](
        x, largest, q, exponents, columns, first_row, *random, PART=PART, ROUNDING=rounding, num_warps=8
    )
    return q, exponents


def quantise_nearest(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x float32 [R, C] -> q int8 [R, C], e int8 [R]; 127 marks a row that is not finite (ARB-QUANT-007)."""
    require_device("quantise_nearest", x)
    return quantise_rows(x)
