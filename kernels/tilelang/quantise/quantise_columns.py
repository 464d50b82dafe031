"""Columns of the scaled output gradient to int8, rounded stochastically (ARB-QUANT-010)."""

from typing import Any

import tilelang.language as T
import torch

from ...layout import row_major
from ..launch import kernel, quads_of, split, transposed_buffer, unchecked
from ..random_bits.generator import draw_arguments, draw_quad, r16
from .exponents import (
    INFINITY_BITS,
    POISONED,
    bits_of,
    exponent_of,
    fraction,
    magnitude,
    power_of_two,
    quantised,
)
from .turning import (
    LINE,
    TILE_ROWS,
    TURNING_THREADS,
    UNITS,
    four_of,
    store_turned,
    third_bytes,
    turn_four,
    unit_of,
    unit_words,
)

QUADS = 32  # neighbours in a block that looks for maxima: 512 bytes of a row
LINES, DEPTH = 8, 16  # rows side by side in it, and rows of one thread


def _scaled(value: Any, e_row: Any) -> Any:
    """Magnitude bits of value * 2^e_row; infinity in a poisoned row."""
    return T.if_then_else(e_row == POISONED, INFINITY_BITS, magnitude(bits_of(value * power_of_two(e_row))))


def _serial_maxima() -> Any:
    """The CPU lane's schedule, column after column. It proves the arithmetic, not the CUDA schedule."""
    rows, quads = T.dynamic("rows", "int64"), T.dynamic("quads", "int64")

    @T.prim_func
    def column_maxima(
        dy: T.Tensor((rows, quads, 4), "float32"),
        e_x: T.Tensor((rows,), "int8"),
        largest: T.Tensor((quads, 4), "int32"),
    ):
        with T.Kernel(quads * 4) as column:
            mine = T.alloc_var("int32", init=0)
            for row in T.serial(rows):
                size = _scaled(dy[row, column // 4, column % 4], T.Cast("int32", e_x[row]))
                if size > mine:
                    mine = size
            largest[column // 4, column % 4] = mine

    return column_maxima


def _quads_of_columns() -> Any:
    """The CUDA schedule: a thread has DEPTH rows of four columns, 16 bytes a load."""
    rows, quads = T.dynamic("rows", "int64"), T.dynamic("quads", "int64")

    @T.prim_func
    def column_maxima(
        dy: T.Tensor((rows, quads, 4), "float32"),
        e_x: T.Tensor((rows,), "int8"),
        largest: T.Tensor((quads, 4), "int32"),
    ):
        across, down = T.ceildiv(quads, QUADS), T.ceildiv(rows, LINES * DEPTH)
        with T.Kernel(across, down, threads=QUADS * LINES) as (bo, bt):
            mine, values = T.alloc_local((4,), "int32"), T.alloc_local((4,), "float32")
            row, quad = T.alloc_var("int32", init=0), T.alloc_var("int32", init=0)
            e_row = T.alloc_var("int32", init=0)
            for t in T.Parallel(QUADS * LINES):
                quad = bo * QUADS + t % QUADS
                for j in T.unroll(4):
                    mine[j] = 0
                for k in T.unroll(DEPTH):
                    row = (bt * DEPTH + k) * LINES + t // QUADS
                    if (row < rows) & (quad < quads):
                        e_row = T.Cast("int32", e_x[row])
                        for j in T.vectorized(4):
                            values[j] = dy[row, quad, j]
                        for j in T.unroll(4):
                            size = _scaled(values[j], e_row)
                            if size > mine[j]:
                                mine[j] = size
                if quad < quads:
                    for j in T.unroll(4):
                        T.atomic_max(largest[quad, j], mine[j])

    return column_maxima


def _serial_columns() -> Any:
    """The CPU lane's schedule, row after row. It proves the arithmetic, not the CUDA schedule."""
    rows, quads, columns, width = (T.dynamic(n, "int64") for n in ("rows", "quads", "columns", "width"))

    @T.prim_func
    def quantise_columns(
        dy: T.Tensor((rows, quads, 4), "float32"),
        e_x: T.Tensor((rows,), "int8"),
        largest: T.Tensor((quads, 4), "int32"),
        q: T.Tensor((columns, width), "int8"),
        exponents: T.Tensor((columns,), "int8"),
    ):
        draw = draw_arguments()
        with T.Kernel(rows) as row:
            words = T.alloc_local((4,), "uint32")
            e = T.alloc_var("int32", init=0)
            scale = power_of_two(T.Cast("int32", e_x[row]))
            for quad in T.serial(quads):
                draw_quad(words, (draw.first_row + row) * columns + quad * 4, draw)
                for j in T.unroll(4):
                    o = quad * 4 + j
                    if o < columns:
                        e = exponent_of(largest[quad, j])
                        f = fraction(bits_of(dy[row, quad, j] * scale), e)
                        q[o, row] = quantised(f, r16(words[j]))
                        if row == 0:
                            exponents[o] = T.Cast("int8", e)

    return quantise_columns


def _turned_columns() -> Any:
    """The CUDA schedule: a tile of 64 rows by 64 columns, of which a thread has four by four, turned through
    shared memory."""
    rows, quads, columns, pieces = (T.dynamic(n, "int64") for n in ("rows", "quads", "columns", "pieces"))

    @T.prim_func
    def quantise_columns(
        dy: T.Tensor((rows, quads, 4), "float32"),
        e_x: T.Tensor((rows,), "int8"),
        largest: T.Tensor((quads, 4), "int32"),
        q: T.Tensor((columns, pieces, 4), "int32"),
        exponents: T.Tensor((columns,), "int8"),
    ):
        draw = draw_arguments()
        across, down = T.ceildiv(quads, UNITS), T.ceildiv(rows, TILE_ROWS)
        with T.Kernel(across, down, threads=TURNING_THREADS) as (bo, bt):
            turned = T.alloc_shared((UNITS * unit_words(4),), "int32")
            values, e = T.alloc_local((16,), "float32"), T.alloc_local((4,), "int32")
            words, found = T.alloc_local((4,), "uint32"), T.alloc_local((4,), "int32")
            scales, sums = T.alloc_local((4,), "float32"), T.alloc_local((4,), "int32")
            row, quad = T.alloc_var("int32", init=0), T.alloc_var("int32", init=0)
            for t in T.Parallel(TURNING_THREADS):
                quad = bo * UNITS + unit_of(t)
                for j in T.unroll(4):
                    e[j] = 0
                if quad < quads:
                    for j in T.vectorized(4):
                        e[j] = largest[quad, j]
                for r in T.unroll(4):
                    row = bt * TILE_ROWS + four_of(t) * 4 + r
                    if (row < rows) & (quad < quads):
                        scales[r] = power_of_two(T.Cast("int32", e_x[row]))
                        for j in T.vectorized(4):
                            values[4 * r + j] = dy[row, quad, j]
                for j in T.unroll(4):
                    e[j] = exponent_of(e[j])
                    if (bt == 0) & (four_of(t) == 0) & (quad * 4 + j < columns):
                        exponents[quad * 4 + j] = T.Cast("int8", e[j])
                for r in T.unroll(4):
                    row = bt * TILE_ROWS + four_of(t) * 4 + r
                    found[r] = 0
                    if (row < rows) & (quad < quads):
                        n = (draw.first_row + row) * columns + T.Cast("int64", quad) * 4
                        draw_quad(words, n, draw)
                        for j in T.unroll(4):
                            f = fraction(bits_of(values[4 * r + j] * scales[r]), e[j])
                            sums[j] = f + r16(words[j])
                        found[r] = third_bytes(sums)
                turn_four(turned, unit_of(t) * unit_words(4) + four_of(t), found, 0, 1)
            store_turned(turned, q, 4, bo * UNITS * 4, bt * (LINE // 4))

    return quantise_columns


@kernel
@unchecked
def maxima_kernel(cuda: bool) -> Any:
    """largest [O]: magnitude bits of each column's largest product; zeros before."""
    return _quads_of_columns() if cuda else _serial_maxima()


@kernel
@unchecked
def columns_kernel(cuda: bool) -> Any:
    """q [O, T] and exponents [O]."""
    return _turned_columns() if cuda else _serial_columns()


def quantise_columns(
    dy: torch.Tensor, e_x: torch.Tensor, seed: int, step: int, stream: int, first_row: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """dy float32 [T, O], e_x int8 [T] -> q int8 [T, O], e int8 [O]; 127 marks a column that is not finite.
    q is a view of memory [O, T], whose rows start at multiples of 16 bytes."""
    rows, columns = dy.shape
    quads, e_x = quads_of(dy), row_major(e_x)
    largest = torch.zeros(quads.shape[1:], dtype=torch.int32, device=dy.device)
    q = transposed_buffer(columns, rows, dy.device)
    exponents = torch.empty(columns, dtype=torch.int8, device=dy.device)
    out = q.view(torch.int32).view(columns, -1, 4) if dy.is_cuda else q
    maxima_kernel(dy.device)(quads, e_x, largest)
    columns_kernel(dy.device)(quads, e_x, largest, out, exponents, *split(seed), step, stream, first_row)
    return q[:, :rows].t(), exponents
