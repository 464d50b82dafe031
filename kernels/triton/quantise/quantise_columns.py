"""Columns of the scaled output gradient to int8, rounded stochastically (ARB-QUANT-010).

dy is read twice: the largest magnitude of every column, then q, which is written token by token along its
rows in memory, [O, T]: that is how its only reader, the weight gradient's product, wants it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...layout import row_major
from ..launch import block_of, blocks, empty_rows, float_overflow, pick, random_key, require_device
from ..random_bits.generator import r16_rows
from .exponents import exponent_of, fraction, magnitude, power_of_two
from .quantise_nearest_both import store_transposed

TOKENS, COLUMNS = pick(32, 512), pick(64, 512)  # a tile


@triton.jit
def scaled_tile(dy, e_x, t, o, tokens, columns):
    """float32 [T, O] products dy * 2^e_x, and the int32 exponents [T]; 0 outside."""
    inside = (t < tokens)[:, None] & (o < columns)[None, :]
    values = tl.load(dy + t.to(tl.int64)[:, None] * columns + o[None, :], mask=inside, other=0.0)
    e = tl.load(e_x + t, mask=t < tokens, other=0).to(tl.int32)
    return values * power_of_two(e)[:, None], e


@triton.jit(do_not_specialize=["tokens"])
def column_largest_kernel(dy, e_x, largest, tokens, columns, TOKENS: tl.constexpr, COLUMNS: tl.constexpr):
    """largest int32 [O], 0 before: magnitude bits of each column's largest product, infinity if poisoned."""
    across = blocks(columns, COLUMNS)
    o = (tl.program_id(0) % across).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    t = tl.program_id(0) // across * TOKENS + tl.arange(0, TOKENS)
    d, e = scaled_tile(dy, e_x, t, o, tokens, columns)
    found = tl.where((e == 127)[:, None], 0x7F800000, magnitude(d))
    tl.atomic_max(largest + o, tl.max(found, axis=0), mask=o < columns, sem="relaxed")


@triton.jit(do_not_specialize=["tokens", "first_row", "step", "stream", "key_low", "key_high"])
def quantise_columns_kernel(
    dy,
    e_x,
    largest,
    q_t,
    exponents,
    tokens,
    columns,
    stride_t,
    first_row,
    step,
    stream,
    key_low,
    key_high,
    TOKENS: tl.constexpr,
    COLUMNS: tl.constexpr,
    QUADS: tl.constexpr,
):
    """q_t [O, T] and exponents [O], one tile a program."""
    across = blocks(columns, COLUMNS)
    first = (tl.program_id(0) % across).to(tl.int64) * COLUMNS
    o = first + tl.arange(0, COLUMNS)
    t = tl.program_id(0) // across * TOKENS + tl.arange(0, TOKENS)
    e = exponent_of(tl.load(largest + o, mask=o < columns, other=0))
    if tl.program_id(0) < across:
        tl.store(exponents + o, e.to(tl.int8), mask=o < columns)
    d, _ = scaled_tile(dy, e_x, t, o, tokens, columns)
    row = first_row.to(tl.int64) + t
    drawn = r16_rows(row, first, columns, step, stream, key_low, key_high, COLUMNS, QUADS)
    q = ((fraction(d, e[None, :]) + drawn) >> 16).to(tl.int8)
    store_transposed(q_t, q, t, o, columns, stride_t)


def quantise_columns(
    dy: torch.Tensor, e_x: torch.Tensor, seed: int, step: int, stream: int, first_row: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """dy float32 [T, O], e_x int8 [T] -> q int8 [T, O] and e int8 [O]; 127 marks a column that is not finite.

    The memory of q is [O, T] with rows on 16-byte boundaries.
    """
    require_device("quantise_columns", dy)
    dy, e_x = row_major(dy), row_major(e_x)
    tokens, columns = dy.shape
    q_t = empty_rows(columns, tokens, dy.device)
    exponents = torch.empty(columns, dtype=torch.int8, device=dy.device)
    largest = torch.zeros(columns, dtype=torch.int32, device=dy.device)
    tile = {"TOKENS": block_of(tokens, 16, TOKENS), "COLUMNS": block_of(columns, 16, COLUMNS)}
    across = triton.cdiv(columns, tile["COLUMNS"])
    with float_overflow():
        column_largest_kernel[(across * triton.cdiv(tokens, tile["TOKENS"]),)](
            dy, e_x, largest, tokens, columns, num_warps=4, **tile
        )
        quantise_columns_kernel[(across * triton.cdiv(tokens, tile["TOKENS"]),)](
            dy,
            e_x,
            largest,
            q_t,
            exponents,
            tokens,
            columns,
            q_t.stride(0),
            first_row,
            *random_key(seed, step, stream),
            QUADS=columns % 4 == 0,
            num_warps=4,
            **tile,
        )
    return q_t.t(), exponents
