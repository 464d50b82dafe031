"""Words of the counter-based generator, as an operation of their own (ARB-RNG-001, -002)."""

from typing import Any

import tilelang.language as T
import torch

from ..launch import THREADS, kernel, split
from .generator import philox_quad


@kernel
def words_kernel(cuda: bool) -> Any:
    count = T.dynamic("count", "int64")

    @T.prim_func
    def philox_words(
        words: T.Tensor((count,), "int64"),
        first: T.int64,
        key0: T.int64,
        key1: T.int64,
        step: T.int64,
        stream: T.int64,
    ):
        with T.Kernel(T.ceildiv(count, THREADS * 4), threads=THREADS) as block:
            for t in T.Parallel(THREADS):
                i = (T.Cast("int64", block) * THREADS + t) * 4
                quad = T.alloc_local((4,), "uint32")
                if i < count:
                    philox_quad(quad, first + i, key0, key1, step, stream)
                    for j in T.unroll(4):
                        if i + j < count:
                            words[i + j] = T.Cast("int64", quad[j])

    return philox_words


def philox(
    first: int, count: int, seed: int, step: int, stream: int, device: str | torch.device = "cpu"
) -> torch.Tensor:
    """word(first) ... word(first + count - 1), int64 [count]."""
    words = torch.empty(count, dtype=torch.int64, device=device)
    words_kernel(words.device)(words, first, *split(seed), step, stream)
    return words
