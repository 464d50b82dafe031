"""Rows of float32 to int8: what the three quantisers by rows share (section 4)."""

from typing import Any

import tilelang.language as T
import torch

from .exponents import HALF, bits_of, exponent_of, fraction, magnitude, quantised
from .launch import kernel, padded, quads_of, split, transposed_buffer
from .random_bits import philox_quad, r16

ROWS, LANES = 32, 8  # of a block on CUDA: lanes side by side on a row, then rows side by side on a column
QUADS = 8  # a thread's run of a row: 32 bytes of q, which is what memory moves


@T.macro
def _row_maximum(cuda: bool, largest: Any, mine: Any, t: Any) -> None:
    """largest [rows]: the maximum over the lanes of each row."""
    best = T.alloc_var("int32", init=0)
    best = mine
    if cuda:
        best = T.max(best, T.shfl_xor(best, 1))
        best = T.max(best, T.shfl_xor(best, 2))
        best = T.max(best, T.shfl_xor(best, 4))
    largest[t // LANES if cuda else 0] = best


@kernel
def rows_kernel(cuda: bool, rounding: str, both: bool) -> Any:
    """A block has some rows: first their exponents, then q, and q_t beside it where `both`.

    The CPU target runs it with one row and one lane a block, so it proves the arithmetic and the indices, not
    the reduction over lanes.
    """
    rows, quads, columns, width = (T.dynamic(n, "int64") for n in ("rows", "quads", "columns", "width"))
    block_rows, lanes = (ROWS, LANES) if cuda else (1, 1)

    @T.prim_func
    def quantise_rows(
        x: T.Tensor((rows, quads, 4), "float32"),
        q: T.Tensor((rows, quads, 4), "int8"),
        q_t: T.Tensor((columns, width), "int8"),
        exponents: T.Tensor((rows,), "int8"),
        key0: T.int64,
        key1: T.int64,
        step: T.int64,
        stream: T.int64,
        first_row: T.int64,
    ):
        with T.Kernel(T.ceildiv(rows, block_rows), threads=block_rows * lanes) as block:
            largest = (T.alloc_shared if cuda else T.alloc_local)((block_rows,), "int32")
            for t in T.Parallel(block_rows * lanes):
                row = T.Cast("int64", block) * block_rows + t // lanes
                mine = T.alloc_var("int32", init=0)
                mine = 0
                if row < rows:
                    for k in T.serial(T.ceildiv(quads, lanes)):
                        quad = k * lanes + t % lanes
                        if quad < quads:
                            for j in T.unroll(4):
                                size = magnitude(bits_of(x[row, quad, j]))
                                if size > mine:
                                    mine = size
                _row_maximum(cuda, largest, mine, t)
            for t in T.Parallel(block_rows * lanes):
                row = T.Cast("int64", block) * block_rows + t % block_rows
                words = T.alloc_local((4,), "uint32")
                e = T.alloc_var("int32", init=0)
                e = exponent_of(largest[t % block_rows])
                if row < rows:
                    exponents[row] = T.Cast("int8", e)
                    for k in T.serial(T.ceildiv(quads, lanes * QUADS)):
                        for run in T.serial(QUADS):
                            quad = (k * lanes + t // block_rows) * QUADS + run
                            if quad < quads:
                                if rounding == "stochastic":
                                    n = (first_row + row) * columns + quad * 4
                                    philox_quad(words, n, key0, key1, step, stream)
                                for j in T.unroll(4):
                                    f = fraction(bits_of(x[row, quad, j]), e)
                                    value = quantised(f, r16(words[j]) if rounding == "stochastic" else HALF)
                                    q[row, quad, j] = value
                                    if both and quad * 4 + j < columns:
                                        q_t[quad * 4 + j, row] = value

    return quantise_rows


def quantise_rows(
    x: torch.Tensor, both: bool = False, random: tuple[int, int, int, int] | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x float32 [R, C]; random = seed, step, stream, first_row for stochastic rounding, else nearest ->
    q int8 [R, C], q_t int8 [C, R] (nothing in it unless `both`), e int8 [R]."""
    rows, columns = x.shape
    quads = quads_of(x)
    q = torch.empty(rows, padded(columns, 4), dtype=torch.int8, device=x.device)
    q_t = transposed_buffer(columns, rows if both else 1, x.device)
    exponents = torch.empty(rows, dtype=torch.int8, device=x.device)
    seed, *numbers = random or (0, 0, 0, 0)
    rows_kernel(x.device, "stochastic" if random else "nearest", both)(
        quads, q.view(rows, -1, 4), q_t, exponents, *split(seed), *numbers
    )
    return q[:, :columns], q_t[:, :rows], exponents
