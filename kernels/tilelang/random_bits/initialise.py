"""Initial codes: a third of the trits are zero (ARB-INIT-001)."""

from typing import Any

import tilelang.language as T
import torch

from ..launch import THREADS, kernel, split
from ..packing.codes import PADDING
from .generator import philox_quad


@kernel
def initial_codes_kernel(cuda: bool) -> Any:
    rows, quads = T.dynamic("rows", "int64"), T.dynamic("quads", "int64")

    @T.prim_func
    def initial_codes(
        codes: T.Tensor((rows, quads), "uint8"),
        columns: T.int64,
        key0: T.int64,
        key1: T.int64,
        stream: T.int64,
    ):
        with T.Kernel(T.ceildiv(rows * quads, THREADS), threads=THREADS) as block:
            for t in T.Parallel(THREADS):
                item = T.Cast("int64", block) * THREADS + t
                words = T.alloc_local((4,), "uint32")
                byte = T.alloc_var("int32", init=0)
                if item < rows * quads:
                    o = item // quads
                    i = item % quads * 4
                    philox_quad(words, o * columns + i, key0, key1, T.int64(0), stream)
                    byte = 0
                    for j in T.unroll(4):
                        code = T.Cast("int32", (T.Cast("uint64", words[j]) * T.uint64(3)) >> T.uint64(32))
                        byte = byte | (T.if_then_else(i + j < columns, code, PADDING) << (2 * j))
                    codes[o, item % quads] = T.Cast("uint8", byte)

    return initial_codes


def initialise(
    out_features: int, in_features: int, seed: int, tensor_id: int, device: str | torch.device = "cpu"
) -> torch.Tensor:
    """codes uint8 [O, ceil(I/4)]."""
    codes = torch.empty(out_features, -(-in_features // 4), dtype=torch.uint8, device=device)
    initial_codes_kernel(codes.device)(codes, in_features, *split(seed), 16 * tensor_id)
    return codes
