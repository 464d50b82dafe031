"""The whole update of a linear layer: weight gradient, moments, votes, firing, exponents and packing in one
kernel (ARB-UPD-002). The gradient is summed in registers and never in memory.

The CPU target, and group sizes that no tile is a multiple of, run weight_gradient and ternary_update one
after the other: the CPU lane proves the rules that the fused kernel uses, not the fused kernel.
"""

from typing import Any, NamedTuple

import tilelang.language as T
import torch

from ...layout import row_major
from ..launch import InPlace, k_major, kernel
from ..linear.gemm import BLOCK_K, BLOCK_M, BLOCK_N, MMA_THREADS, multiply_nt
from ..linear.weight_gradient import weight_gradient
from ..packing.codes import ALL_PADDING, replaced, trit, widen
from ..random_bits.generator import r16
from .moment import adapt, add_square, square_shift
from .rules import (
    COUNTS,
    FIRED,
    fire_trit,
    how_arguments,
    mean_factor,
    read_how,
    settle_group,
    store_settled,
    tally,
    vote_words,
)
from .ternary_update import ternary_update

FUSED_GROUP_SIZES = (32, 64, 128, 256)
QUADS = BLOCK_N // 4  # of a row of the tile
AHEAD = 8  # bytes of codes whose state a thread loads at once
PADDED = BLOCK_N + 4  # words of a row of sums: 16-byte loads down a column then meet no bank twice


class Tile(NamedTuple):
    """What the steps of a block share: where its tile is, what they write, and words of a thread."""

    bm: Any
    bn: Any
    e_g: Any
    codes: Any
    t_accum: Any
    e: Any
    e_accum: Any
    moment: Any
    sums: Any  # int32 [BLOCK_M, PADDED], shared: the gradient
    factors: Any  # int32 [BLOCK_M, groups of the tile], shared: what each group's votes are made with
    shifts: Any
    quad: Any  # int32 [4]
    bytes: Any  # int32 [AHEAD]: codes
    accums: Any  # int32 [AHEAD, 4]
    tallies: Any  # int32 [COUNTS]


@T.macro
def settle_tile(
    tile: Any, settled: Any, byte: T.Ref, size: T.Ref, h: T.Ref, rule: str, group: int, how: Any
) -> None:
    """S, h, the moment and the exponent of every group of the tile, a group a thread at a time."""
    across = BLOCK_N // group
    o_extent, i_extent = tile.t_accum.shape
    quads, groups = tile.codes.shape[1], tile.e.shape[1]
    voting = T.alloc_local((3,), "int32")
    s = T.alloc_var("int32", init=0)
    squares = T.alloc_var("int32", init=0)
    for turn in T.serial(T.ceildiv(BLOCK_M * across, MMA_THREADS)):
        for t in T.Parallel(MMA_THREADS):
            line = (turn * MMA_THREADS + t) % BLOCK_M
            place = (turn * MMA_THREADS + t) // BLOCK_M
            o = tile.bm * BLOCK_M + line
            column = tile.bn * across + place
            if (o < o_extent) and (column < groups) and (place < across):
                size = T.int64(0)
                h = T.int64(0)
                for k in T.serial(group // 4):
                    for j in T.vectorized(4):
                        tile.quad[j] = tile.sums[line, place * group + k * 4 + j]
                    if column * (group // 4) + k < quads:
                        byte = widen(tile.codes[o, column * (group // 4) + k])
                        for j in T.unroll(4):
                            g = T.Cast("int64", tile.quad[j])
                            size = size + T.abs(g)
                            h = h - g * T.Cast("int64", trit(byte, j))
                count = T.min(group, i_extent - column * group)
                if rule == "scaled":
                    mean_factor(voting, size, T.Cast("int64", count), how.gain)
                if rule == "adaptive":
                    s = square_shift(size)
                    squares = 0
                    for k in T.serial(group // 4):
                        for j in T.vectorized(4):
                            tile.quad[j] = tile.sums[line, place * group + k * 4 + j]
                        for j in T.unroll(4):
                            add_square(squares, tile.quad[j], s)
                    e_row = widen(tile.e_g[o])
                    adapt(voting, squares, s, count, e_row, tile.moment[o, column], how.step, how.gain)
                    tile.moment[o, column] = voting[2]
                if rule != "sign":
                    tile.factors[line, place] = voting[0]
                    tile.shifts[line, place] = voting[1]
                n = T.Cast("int64", o) * T.Cast("int64", groups) + T.Cast("int64", column)
                settle_group(
                    settled, size, h, n, widen(tile.e[o, column]), widen(tile.e_accum[o, column]), 127, how
                )
                store_settled(tile.e, tile.e_accum, (o, column), settled)
                tile.tallies[3] = tile.tallies[3] + settled[2]
                tile.tallies[4] = tile.tallies[4] + settled[3]


@T.macro
def fire_tile(tile: Any, words: Any, fired: Any, byte: T.Ref, rule: str, group: int, how: Any) -> None:
    """Votes and firing of every trit of the tile: a thread loads AHEAD bytes of codes and their accumulators,
    does them without a branch between, and stores them. What is outside the matrix has a gradient and an
    accumulator of 0, so that it neither votes nor fires."""
    o_extent, i_extent = tile.t_accum.shape
    for turns in T.serial(BLOCK_M * QUADS // (MMA_THREADS * AHEAD)):
        for t in T.Parallel(MMA_THREADS):
            for ahead in T.unroll(AHEAD):
                o = tile.bm * BLOCK_M + ((turns * AHEAD + ahead) * MMA_THREADS + t) // QUADS
                i = tile.bn * BLOCK_N + t % QUADS * 4
                tile.bytes[ahead] = ALL_PADDING
                for j in T.unroll(4):
                    tile.accums[ahead * 4 + j] = 0
                if (o < o_extent) and (i < i_extent):
                    tile.bytes[ahead] = widen(tile.codes[o, i // 4])
                    for j in T.unroll(4):
                        if i + j < i_extent:
                            tile.accums[ahead * 4 + j] = widen(tile.t_accum[o, i + j])
            for ahead in T.unroll(AHEAD):
                line = ((turns * AHEAD + ahead) * MMA_THREADS + t) // QUADS
                place = t % QUADS
                o = tile.bm * BLOCK_M + line
                i = tile.bn * BLOCK_N + place * 4
                if rule != "sign":
                    n = T.Cast("int64", o) * T.Cast("int64", i_extent) + T.Cast("int64", i)
                    vote_words(words, n, how)
                else:
                    for j in T.unroll(4):
                        words[j] = T.uint32(0)
                for j in T.vectorized(4):
                    tile.quad[j] = tile.sums[line, place * 4 + j]
                byte = tile.bytes[ahead]
                for j in T.unroll(4):
                    fire_trit(
                        fired,
                        rule == "sign",
                        tile.quad[j],
                        trit(byte, j),
                        tile.accums[ahead * 4 + j],
                        tile.factors[line, place * 4 // group],
                        tile.shifts[line, place * 4 // group],
                        r16(words[j]),
                        how,
                    )
                    byte = replaced(byte, j, fired[0])
                    tile.accums[ahead * 4 + j] = fired[1]
                    for c in T.unroll(FIRED):
                        tile.tallies[c] = tile.tallies[c] + fired[2 + c]
                tile.bytes[ahead] = byte
            for ahead in T.unroll(AHEAD):
                o = tile.bm * BLOCK_M + ((turns * AHEAD + ahead) * MMA_THREADS + t) // QUADS
                i = tile.bn * BLOCK_N + t % QUADS * 4
                if (o < o_extent) and (i < i_extent):
                    tile.codes[o, i // 4] = T.Cast("uint8", tile.bytes[ahead])
                    for j in T.unroll(4):
                        if i + j < i_extent:
                            tile.t_accum[o, i + j] = T.Cast("int8", tile.accums[ahead * 4 + j])


@kernel
def fused_kernel(cuda: bool, rule: str, group: int) -> Any:
    """A block has a tile [O, I] of the layer. After the product its sums go through shared memory: a thread
    takes one group at a time for S, h and the exponent, then one byte of codes at a time for its votes."""
    o_extent, i_extent, t_extent = (T.dynamic(name, "int32") for name in ("o_extent", "i_extent", "t_extent"))
    quads, groups = T.dynamic("quads", "int32"), T.dynamic("groups", "int32")

    @T.prim_func
    def linear_update(
        q_g: T.Tensor((o_extent, t_extent), "int8"),
        q_x: T.Tensor((i_extent, t_extent), "int8"),
        e_g: T.Tensor((o_extent,), "int8"),
        codes: T.Tensor((o_extent, quads), "uint8"),
        t_accum: T.Tensor((o_extent, i_extent), "int8"),
        e: T.Tensor((o_extent, groups), "int8"),
        e_accum: T.Tensor((o_extent, groups), "int8"),
        moment: T.Tensor((o_extent, groups), "int32"),
        counts: T.Tensor((COUNTS,), "int32"),
    ):
        how = how_arguments()
        across, down = T.ceildiv(i_extent, BLOCK_N), T.ceildiv(o_extent, BLOCK_M)
        with T.Kernel(across, down, threads=MMA_THREADS) as (bn, bm):
            a_tile = T.alloc_shared((BLOCK_M, BLOCK_K), "int8")
            b_tile = T.alloc_shared((BLOCK_N, BLOCK_K), "int8")
            total = T.alloc_fragment((BLOCK_M, BLOCK_N), "int32")
            sums = T.alloc_shared((BLOCK_M, PADDED), "int32")
            factors = T.alloc_shared((BLOCK_M, BLOCK_N // group), "int32")
            shifts = T.alloc_shared((BLOCK_M, BLOCK_N // group), "int32")
            quad = T.alloc_local((4,), "int32")
            bytes_ahead = T.alloc_local((AHEAD,), "int32")
            accums = T.alloc_local((4 * AHEAD,), "int32")
            words = T.alloc_local((4,), "uint32")
            settled = T.alloc_local((4,), "int32")
            fired = T.alloc_local((5,), "int32")
            tallies = T.alloc_local((COUNTS,), "int32")
            byte = T.alloc_var("int32", init=0)
            size = T.alloc_var("int64", init=0)
            h = T.alloc_var("int64", init=0)

            T.use_swizzle(8)
            multiply_nt(q_g, q_x, a_tile, b_tile, total, bm, bn, t_extent)
            T.copy(total, sums[:, :BLOCK_N])
            for c in T.unroll(COUNTS):
                tallies[c] = 0
            state = (codes, t_accum, e, e_accum, moment)
            tile = Tile(bm, bn, e_g, *state, sums, factors, shifts, quad, bytes_ahead, accums, tallies)
            settle_tile(tile, settled, byte, size, h, rule, group, how)
            T.sync_threads()  # settling reads trits that other threads fire (ARB-SCALE-004)
            fire_tile(tile, words, fired, byte, rule, group, how)
            for c in T.unroll(COUNTS):
                tally(cuda, counts, c, tallies[c])

    return linear_update


def linear_update(
    q_g: torch.Tensor,
    e_g: torch.Tensor,
    q_x: torch.Tensor,
    codes: torch.Tensor,
    t_accum: torch.Tensor,
    e: torch.Tensor,
    e_accum: torch.Tensor,
    moment: torch.Tensor,
    *how: Any,
) -> torch.Tensor:
    """q_g int8 [T, O], e_g int8 [O], q_x int8 [T, I]; codes, t_accum, e, e_accum, moment in place; `how` as
    in the specification -> counts int64 [5]. Reads q_g and q_x over tokens: no copy where their memory is
    [O, T] and [I, T]."""
    rule, integers = read_how(*how)
    if not q_g.is_cuda or integers.group_size not in FUSED_GROUP_SIZES:
        return ternary_update(weight_gradient(q_g, q_x), e_g, codes, t_accum, e, e_accum, moment, *how)
    counts = torch.zeros(COUNTS, dtype=torch.int32, device=q_g.device)
    operands = k_major(q_g.t()), k_major(q_x.t()), row_major(e_g)
    with InPlace(codes, t_accum, e, e_accum, moment) as state:
        fused_kernel(q_g.device, rule, integers.group_size)(*operands, *state, counts, *integers)
    return counts.to(torch.int64)
