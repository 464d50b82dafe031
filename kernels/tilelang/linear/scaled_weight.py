"""w^ = trit << (e - e_base) as an int8 scratch matrix (section 5), in the layout that the next product
reads."""

from typing import Any

import tilelang.language as T
import torch

from ...layout import row_major
from ..launch import THREADS, k_major, kernel, padded, unchecked
from ..packing.codes import trit, widen
from ..packing.unpacking import FIELDS, find_groups, load_word, scaled_word
from ..quantise.turning import (
    LINE,
    TILE_ROWS,
    TURNING_THREADS,
    UNITS,
    four_of,
    store_turned,
    turn_four,
    unit_of,
    unit_words,
)

ROWS, WORDS = 32, 32  # a tile of codes that is not turned: 128 bytes of 32 rows


def _serial(transposed: bool) -> Any:
    """The CPU lane's schedule: an element at a time. It proves the launcher, not the CUDA schedules."""
    rows, quads, groups = (T.dynamic(name, "int64") for name in ("rows", "quads", "groups"))
    lines, width = T.dynamic("lines", "int64"), T.dynamic("width", "int64")

    @T.prim_func
    def scaled_weight(
        codes: T.Tensor((rows, quads), "uint8"),
        e: T.Tensor((rows, groups), "int8"),
        weight: T.Tensor((lines, width), "int8"),
        columns: T.int32,
        group_size: T.int32,
        e_base: T.int32,
    ):
        with T.Kernel(T.ceildiv(lines * width // 4, THREADS), threads=THREADS) as block:
            for t in T.Parallel(THREADS):
                item = T.Cast("int64", block) * THREADS + t
                value = T.alloc_var("int32", init=0)
                if item < lines * width // 4:
                    line = item // (width // 4)
                    place = item % (width // 4) * 4
                    for j in T.unroll(4):
                        o = place + j if transposed else line
                        i = line if transposed else place + j
                        value = 0
                        if (o < rows) & (i < columns):
                            shift = widen(e[o, i // group_size]) - e_base
                            value = trit(widen(codes[o, i // 4]), T.Cast("int32", i % 4)) * (
                                T.int32(1) << shift
                            )
                        weight[line, place + j] = T.Cast("int8", value)

    return scaled_weight


def _straight(whole: bool) -> Any:
    """The CUDA schedule for [O, I']: a thread reads a word of codes and writes 16 bytes, four rows of it."""
    rows, words, groups, pieces = (T.dynamic(name, "int64") for name in ("rows", "words", "groups", "pieces"))

    @T.prim_func
    def scaled_weight(
        codes: T.Tensor((rows, words), "int32"),
        e: T.Tensor((rows, groups), "int8"),
        weight: T.Tensor((rows, pieces, 4), "int32"),
        columns: T.int32,
        group_size: T.int32,
        e_base: T.int32,
    ):
        with T.Kernel(T.ceildiv(rows, ROWS), T.ceildiv(pieces, WORDS), threads=256) as (bo, bi):
            packed = T.alloc_local((ROWS // 8,), "int32")
            weights, found = T.alloc_local((4,), "int32"), T.alloc_local((4,), "int32")
            row, word = T.alloc_var("int32", init=0), T.alloc_var("int32", init=0)
            for t in T.Parallel(256):
                word = bi * WORDS + t % 32
                find_groups(found, e, word, group_size, whole)
                for turn in T.unroll(ROWS // 8):
                    row = bo * ROWS + turn * 8 + t // 32
                    packed[turn] = load_word(codes, row, word, columns)
                for turn in T.unroll(ROWS // 8):
                    row = bo * ROWS + turn * 8 + t // 32
                    if (row < rows) & (word < pieces):
                        scaled_word(weights, 0, packed[turn], e, row, found, e_base, whole)
                        for j in T.vectorized(4):
                            weight[row, word, j] = weights[j]

    return scaled_weight


def _turned(whole: bool) -> Any:
    """The CUDA schedule for [I, O']: a tile of 64 rows by 16 words of codes, turned through shared memory."""
    rows, words, groups = (T.dynamic(name, "int64") for name in ("rows", "words", "groups"))
    lines, pieces = T.dynamic("lines", "int64"), T.dynamic("pieces", "int64")

    @T.prim_func
    def scaled_weight(
        codes: T.Tensor((rows, words), "int32"),
        e: T.Tensor((rows, groups), "int8"),
        weight: T.Tensor((lines, pieces, 4), "int32"),
        columns: T.int32,
        group_size: T.int32,
        e_base: T.int32,
    ):
        down, across = T.ceildiv(rows, TILE_ROWS), T.ceildiv(lines, UNITS * FIELDS)
        with T.Kernel(down, across, threads=TURNING_THREADS) as (bo, bi):
            turned = T.alloc_shared((UNITS * unit_words(FIELDS),), "int32")
            packed = T.alloc_local((4,), "int32")
            weights, found = T.alloc_local((16,), "int32"), T.alloc_local((4,), "int32")
            row, word = T.alloc_var("int32", init=0), T.alloc_var("int32", init=0)
            for t in T.Parallel(TURNING_THREADS):
                word = bi * UNITS + unit_of(t)
                find_groups(found, e, word, group_size, whole)
                for r in T.unroll(4):
                    row = bo * TILE_ROWS + four_of(t) * 4 + r
                    packed[r] = load_word(codes, row, word, columns)
                for r in T.unroll(4):
                    row = bo * TILE_ROWS + four_of(t) * 4 + r
                    if (row < rows) & (word * FIELDS < columns):
                        scaled_word(weights, 4 * r, packed[r], e, row, found, e_base, whole)
                    else:
                        for j in T.unroll(4):
                            weights[4 * r + j] = 0
                for j in T.unroll(4):
                    place = unit_of(t) * unit_words(FIELDS) + j * 4 * LINE + four_of(t)
                    turn_four(turned, place, weights, j, 4)
            store_turned(turned, weight, FIELDS, bi * UNITS * FIELDS, bo * (LINE // 4))

    return scaled_weight


@kernel
@unchecked
def scaling_kernel(cuda: bool, transposed: bool, whole: bool) -> Any:
    """Writes the scratch, zeros behind the matrix. `whole`: no group of columns ends inside a word."""
    if not cuda:
        return _serial(transposed)
    return _turned(whole) if transposed else _straight(whole)


def scaled_weight(
    codes: torch.Tensor, e: torch.Tensor, e_base: int, group_size: int, columns: int, transposed: bool
) -> torch.Tensor:
    """codes uint8 [O, ceil(I/4)], e int8 [O, G] -> w^ int8 [O, I'], or transposed [I, O']; the primed extent
    is rounded up to 16 with zeros."""
    rows = codes.shape[0]
    shape = (columns, padded(rows)) if transposed else (rows, padded(columns))
    weight = torch.empty(shape, dtype=torch.int8, device=codes.device)
    packed, out = row_major(codes), weight
    if codes.is_cuda:
        packed, out = k_major(codes).view(torch.int32), weight.view(torch.int32).view(shape[0], -1, 4)
    build = scaling_kernel(codes.device, transposed, codes.is_cuda and group_size % FIELDS == 0)
    build(packed, row_major(e), out, columns, group_size, e_base)
    return weight
