"""Tiles of bytes turned through shared memory, on CUDA, four bytes of a word at a time.

A tile has 64 rows and 16 units of columns. A thread takes four rows of one unit, turns four bytes by four in
its registers, and writes words of four rows to shared memory: `LINE` words a column, and 4 words more a unit,
so that 8 neighbouring units of 4 neighbouring fours of rows, a warp's, meet no bank twice. Then a column is
read 16 bytes at a time, without conflicts as well, and leaves as 64 neighbouring bytes.
"""

from typing import Any

import tilelang.language as T

from ..packing.unpacking import permuted

TILE_ROWS, UNITS = 64, 16  # of a tile
LINE = TILE_ROWS // 4  # words of a column
TURNING_THREADS = UNITS * LINE


def third_bytes(words: Any) -> Any:
    """The word of bytes 2 of words[0 ... 3]."""
    return permuted(permuted(words[0], words[1], 0x62), permuted(words[2], words[3], 0x62), 0x5410)


def unit_words(columns: int) -> int:
    """Words that a unit of that many columns takes in shared memory."""
    return columns * LINE + 4


@T.macro
def turn_four(turned: Any, place: Any, words: Any, at: Any, step: int) -> None:
    """turned[place + k * LINE] = byte k of the four words at `at`, `step` apart, k = 0 ... 3."""
    pairs = T.alloc_local((4,), "int32")
    for k in T.unroll(2):
        pairs[k] = permuted(words[at + 2 * k * step], words[at + (2 * k + 1) * step], 0x5140)
        pairs[2 + k] = permuted(words[at + 2 * k * step], words[at + (2 * k + 1) * step], 0x7362)
    for k in T.unroll(2):
        turned[place + 2 * k * LINE] = permuted(pairs[2 * k], pairs[2 * k + 1], 0x5410)
        turned[place + (2 * k + 1) * LINE] = permuted(pairs[2 * k], pairs[2 * k + 1], 0x7632)


def unit_of(t: Any) -> Any:
    """The unit of thread t."""
    return t % 8 + t // 128 * 8


def four_of(t: Any) -> Any:
    """The four of rows of thread t."""
    return t // 8 % LINE


@T.macro
def store_turned(turned: Any, out: Any, columns: int, first_line: Any, first_piece: Any) -> None:
    """Writes the tile, units of `columns` columns, to out int32 [lines, pieces, 4] from that line and piece
    on, as far as `out` goes."""
    line, piece = T.alloc_var("int32", init=0), T.alloc_var("int32", init=0)
    for t in T.Parallel(TURNING_THREADS):
        for turn in T.unroll(UNITS * columns * 4 // TURNING_THREADS):
            column = turn * (TURNING_THREADS // 4) + t // 4
            line = first_line + column
            piece = first_piece + t % 4
            if (line < out.shape[0]) & (piece < out.shape[1]):
                for j in T.vectorized(4):
                    out[line, piece, j] = turned[
                        column // columns * unit_words(columns) + column % columns * LINE + t % 4 * 4 + j
                    ]
