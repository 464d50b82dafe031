"""Columns of the scaled output gradient to int8, rounded stochastically (ARB-QUANT-010)."""

from typing import Any

import tilelang.language as T
import torch

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
from .launch import THREADS, dense, kernel, quads_of, split, transposed_buffer
from .random_bits import philox_quad, r16

ROWS = 64  # of a column that one thread looks at
QUADS = 4  # of a row that one thread quantises: 64 bytes of dy


@kernel
def maxima_kernel(cuda: bool) -> Any:
    """largest [O]: magnitude bits of each column's largest product; a thread has a piece of one column."""
    rows, quads = T.dynamic("rows", "int64"), T.dynamic("quads", "int64")

    @T.prim_func
    def column_maxima(
        dy: T.Tensor((rows, quads, 4), "float32"),
        e_x: T.Tensor((rows,), "int8"),
        largest: T.Tensor((quads, 4), "int32"),
    ):
        with T.Kernel(T.ceildiv(quads * 4, THREADS), T.ceildiv(rows, ROWS), threads=THREADS) as (bo, bt):
            for t in T.Parallel(THREADS):
                column = T.Cast("int64", bo) * THREADS + t
                first = T.Cast("int64", bt) * ROWS
                mine = T.alloc_var("int32", init=0)
                mine = 0
                if column < quads * 4:
                    for k in T.serial(T.min(ROWS, rows - first)):
                        e_row = T.Cast("int32", e_x[first + k])
                        d = dy[first + k, column // 4, column % 4] * power_of_two(e_row)
                        size = T.if_then_else(e_row == POISONED, INFINITY_BITS, magnitude(bits_of(d)))
                        if size > mine:
                            mine = size
                    T.atomic_max(largest[column // 4, column % 4], mine)

    return column_maxima


@kernel
def columns_kernel(cuda: bool) -> Any:
    """q [O, T]: a thread has 16 neighbours of one row, and threads side by side have rows side by side, so
    that both what is read and what is written fill the pieces that memory moves."""
    rows, quads, columns, width = (T.dynamic(n, "int64") for n in ("rows", "quads", "columns", "width"))

    @T.prim_func
    def quantise_columns(
        dy: T.Tensor((rows, quads, 4), "float32"),
        e_x: T.Tensor((rows,), "int8"),
        largest: T.Tensor((quads, 4), "int32"),
        q: T.Tensor((columns, width), "int8"),
        exponents: T.Tensor((columns,), "int8"),
        key0: T.int64,
        key1: T.int64,
        step: T.int64,
        stream: T.int64,
        first_row: T.int64,
    ):
        with T.Kernel(T.ceildiv(rows, THREADS), T.ceildiv(quads, QUADS), threads=THREADS) as (bt, bo):
            for t in T.Parallel(THREADS):
                row = T.Cast("int64", bt) * THREADS + t
                words = T.alloc_local((4,), "uint32")
                e = T.alloc_var("int32", init=0)
                if row < rows:
                    scale = power_of_two(T.Cast("int32", e_x[row]))
                    for run in T.serial(QUADS):
                        quad = T.Cast("int64", bo) * QUADS + run
                        if quad < quads:
                            n = (first_row + row) * columns + quad * 4
                            philox_quad(words, n, key0, key1, step, stream)
                            for j in T.unroll(4):
                                o = quad * 4 + j
                                if o < columns:
                                    e = exponent_of(largest[quad, j])
                                    f = fraction(bits_of(dy[row, quad, j] * scale), e)
                                    q[o, row] = quantised(f, r16(words[j]))
                                    if row == 0:
                                        exponents[o] = T.Cast("int8", e)

    return quantise_columns


def quantise_columns(
    dy: torch.Tensor, e_x: torch.Tensor, seed: int, step: int, stream: int, first_row: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """dy float32 [T, O], e_x int8 [T] -> q int8 [T, O], e int8 [O]; 127 marks a column that is not finite.
    q is a view of memory [O, T], whose rows start at multiples of 16 bytes."""
    rows, columns = dy.shape
    quads, e_x = quads_of(dy), dense(e_x)
    largest = torch.zeros(quads.shape[1:], dtype=torch.int32, device=dy.device)
    q = transposed_buffer(columns, rows, dy.device)
    exponents = torch.empty(columns, dtype=torch.int8, device=dy.device)
    maxima_kernel(dy.device)(quads, e_x, largest)
    columns_kernel(dy.device)(quads, e_x, largest, q, exponents, *split(seed), step, stream, first_row)
    return q[:, :rows].t(), exponents
