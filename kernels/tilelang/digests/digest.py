"""Sums of mixed words, row by row (ARB-DIG-001), in uint64: what is signed must not overflow in C."""

from operator import add
from typing import Any

import tilelang.language as T
import torch

from ...layout import row_major
from ..launch import kernel, unchecked
from ..rows.fixed_point import over_block, schedule

OF_A_PLACE = 0x9E3779B97F4A7C15
FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def constant(word: int) -> Any:
    """uint64 of its halves: g++ warns of a literal that int64 does not have."""
    return (T.uint64(word >> 32) << T.uint64(32)) | T.uint64(word & 0xFFFFFFFF)


@kernel
@unchecked
def digest_kernel(cuda: bool) -> Any:
    """digests [R] of words [R, C] and first [R], a block a row."""
    rows, columns = T.dynamic("rows", "int64"), T.dynamic("columns", "int64")
    threads, _ = schedule(cuda)

    @T.prim_func
    def digest(
        words: T.Tensor((rows, columns), "int64"),
        first: T.Tensor((rows,), "int64"),
        digests: T.Tensor((rows,), "int64"),
    ):
        with T.Kernel(rows, threads=threads) as row:
            cells = T.alloc_shared((threads,), "uint64")
            total, word, place, z = (T.alloc_var("uint64", init=0) for _ in range(4))
            column = T.alloc_var("int64", init=0)
            for t in T.Parallel(threads):
                column = T.Cast("int64", t)
                while column < columns:
                    word = T.Cast("uint64", words[row, column])
                    if word != T.uint64(0):
                        place = T.Cast("uint64", first[row]) + T.Cast("uint64", column)
                        z = word ^ ((place + T.uint64(1)) * constant(OF_A_PLACE))
                        z = (z ^ (z >> T.uint64(30))) * constant(FACTORS[0])
                        z = (z ^ (z >> T.uint64(27))) * constant(FACTORS[1])
                        total = total + (z ^ (z >> T.uint64(31)))
                    column = column + threads
            over_block(total, cells, threads, add)
            for t in T.Parallel(threads):
                if t == 0:
                    digests[row] = T.Cast("int64", total)

    return digest


def digest(words: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """words int64 [R, C] and first int64 [R] -> digests int64 [R]."""
    words, first = row_major(words), row_major(first)
    digests = torch.empty(len(words), dtype=torch.int64, device=words.device)
    digest_kernel(words.device)(words, first, digests)
    return digests
