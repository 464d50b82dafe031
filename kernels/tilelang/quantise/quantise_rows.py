"""Rows of float32 to int8: what the three quantisers by rows share (section 4)."""

from typing import Any

import tilelang.language as T
import torch

from ..launch import kernel, padded, quads_of, split, transposed_buffer, unchecked
from ..random_bits.generator import draw_arguments, draw_quad, r16
from .exponents import HALF, bits_of, exponent_of, fraction, magnitude, quantised
from .transpose import transpose

THREADS = 256
SHORT_LANES = 32  # of a row that a warp holds; longer rows have the whole block


def held_quads(rounding: str) -> int:
    """Quads of a row that a lane holds in registers; what is behind them is read twice."""
    return 4 if rounding == "stochastic" else 8


def _serial(rounding: str, both: bool) -> Any:
    """The CPU lane's schedule: row after row. It proves the arithmetic and the launcher, not the CUDA
    schedule."""
    rows, quads, columns, width = (T.dynamic(n, "int64") for n in ("rows", "quads", "columns", "width"))

    @T.prim_func
    def quantise_rows(
        x: T.Tensor((rows, quads, 4), "float32"),
        q: T.Tensor((rows, quads, 4), "int8"),
        q_t: T.Tensor((columns, width), "int8"),
        exponents: T.Tensor((rows,), "int8"),
    ):
        draw = draw_arguments()
        with T.Kernel(rows) as row:
            words = T.alloc_local((4,), "uint32")
            mine = T.alloc_var("int32", init=0)
            e = T.alloc_var("int32", init=0)
            for quad in T.serial(quads):
                for j in T.unroll(4):
                    size = magnitude(bits_of(x[row, quad, j]))
                    if size > mine:
                        mine = size
            e = exponent_of(mine)
            exponents[row] = T.Cast("int8", e)
            for quad in T.serial(quads):
                if rounding == "stochastic":
                    draw_quad(words, (draw.first_row + row) * columns + quad * 4, draw)
                for j in T.unroll(4):
                    f = fraction(bits_of(x[row, quad, j]), e)
                    value = quantised(f, r16(words[j]) if rounding == "stochastic" else HALF)
                    q[row, quad, j] = value
                    if both and quad * 4 + j < columns:
                        q_t[quad * 4 + j, row] = value

    return quantise_rows


@T.macro
def _maximum(mine: T.Ref, warps: Any, lanes: int) -> None:
    """mine = the largest of a row's lanes."""
    other = T.alloc_var("int32", init=0)
    for t in T.Parallel(THREADS):
        for k in T.unroll(5):
            other = T.shfl_xor(mine, T.int32(1) << k)
            if other > mine:
                mine = other
        if lanes == THREADS and t % 32 == 0:
            warps[t // 32] = mine
    if lanes == THREADS:
        for _t in T.Parallel(THREADS):
            for k in T.unroll(THREADS // 32):
                other = warps[k]
                if other > mine:
                    mine = other


@T.macro
def _store_quad(q: Any, row: Any, quad: Any, bits: Any, at: int, e: Any, words: Any, rounding: str) -> None:
    """q[row, quad] of the four values whose bits are bits[at ... at + 3]."""
    found = T.alloc_local((4,), "int8")
    for j in T.unroll(4):
        f = fraction(bits[at + j], e)
        found[j] = quantised(f, r16(words[j]) if rounding == "stochastic" else HALF)
    for j in T.vectorized(4):
        q[row, quad, j] = found[j]


def _lanes(rounding: str, lanes: int) -> Any:
    """The CUDA schedule: a row has neighbouring lanes, which hold its beginning in registers, 16 bytes at a
    time; first its exponent, then q."""
    rows, quads = T.dynamic("rows", "int64"), T.dynamic("quads", "int64")
    held = held_quads(rounding)

    @T.prim_func
    def quantise_rows(
        x: T.Tensor((rows, quads, 4), "int32"),
        q: T.Tensor((rows, quads, 4), "int8"),
        exponents: T.Tensor((rows,), "int8"),
        columns: T.int64,
    ):
        draw = draw_arguments()
        with T.Kernel(T.ceildiv(rows, THREADS // lanes), threads=THREADS) as block:
            warps = T.alloc_shared((THREADS // 32,), "int32")
            bits, more = T.alloc_local((held * 4,), "int32"), T.alloc_local((4,), "int32")
            words = T.alloc_local((4,), "uint32")
            row, quad = T.alloc_var("int32", init=0), T.alloc_var("int32", init=0)
            mine, e = T.alloc_var("int32", init=0), T.alloc_var("int32", init=0)
            for t in T.Parallel(THREADS):
                row = block * (THREADS // lanes) + t // lanes
                for k in T.unroll(held):
                    quad = k * lanes + t % lanes
                    for j in T.unroll(4):
                        bits[k * 4 + j] = 0
                    if (row < rows) & (quad < quads):
                        for j in T.vectorized(4):
                            bits[k * 4 + j] = x[row, quad, j]
                for k in T.unroll(held * 4):
                    if magnitude(bits[k]) > mine:
                        mine = magnitude(bits[k])
                if row < rows:
                    quad = held * lanes + t % lanes
                    while quad < quads:
                        for j in T.vectorized(4):
                            more[j] = x[row, quad, j]
                        for j in T.unroll(4):
                            if magnitude(more[j]) > mine:
                                mine = magnitude(more[j])
                        quad = quad + lanes
            _maximum(mine, warps, lanes)
            for t in T.Parallel(THREADS):
                e = exponent_of(mine)
                if row < rows:
                    if t % lanes == 0:
                        exponents[row] = T.Cast("int8", e)
                    for k in T.unroll(held):
                        quad = k * lanes + t % lanes
                        if quad < quads:
                            if rounding == "stochastic":
                                n = (draw.first_row + row) * columns + T.Cast("int64", quad) * 4
                                draw_quad(words, n, draw)
                            _store_quad(q, row, quad, bits, k * 4, e, words, rounding)
                    quad = held * lanes + t % lanes
                    while quad < quads:
                        for j in T.vectorized(4):
                            more[j] = x[row, quad, j]
                        if rounding == "stochastic":
                            n = (draw.first_row + row) * columns + T.Cast("int64", quad) * 4
                            draw_quad(words, n, draw)
                        _store_quad(q, row, quad, more, 0, e, words, rounding)
                        quad = quad + lanes

    return quantise_rows


@kernel
def serial_rows_kernel(cuda: bool, rounding: str, both: bool) -> Any:
    """x to q, exponents, and q_t where `both`, on the CPU."""
    return _serial(rounding, both)


@kernel
@unchecked
def rows_kernel(cuda: bool, rounding: str, lanes: int) -> Any:
    """x to q and exponents, on CUDA."""
    return _lanes(rounding, lanes)


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
    rounding = "stochastic" if random else "nearest"
    if x.is_cuda:
        short = quads.shape[1] <= SHORT_LANES * held_quads(rounding)
        rows_kernel(x.device, rounding, SHORT_LANES if short else THREADS)(
            quads.view(torch.int32), q.view(rows, -1, 4), exponents, columns, *split(seed), *numbers
        )
        if both:
            transpose(q, q_t)
    else:
        serial_rows_kernel(x.device, rounding, both)(
            quads, q.view(rows, -1, 4), q_t, exponents, *split(seed), *numbers
        )
    return q[:, :columns], q_t[:, :rows], exponents
