"""w^ = trit << (e - e_base) as an int8 scratch matrix (section 5), in the layout that the next product
reads."""

from typing import Any

import tilelang.language as T
import torch

from .codes import trit, widen
from .launch import THREADS, dense, kernel, padded


@kernel
def scaling_kernel(cuda: bool, transposed: bool) -> Any:
    """One thread writes four neighbours of the scratch, zeros behind the matrix: from one byte of codes
    [O, I'], or, transposed [I', O'], from four rows of it."""
    rows, quads, groups = (T.dynamic(name, "int64") for name in ("rows", "quads", "groups"))
    lines, width = T.dynamic("lines", "int64"), T.dynamic("width", "int64")

    @T.prim_func
    def scaled_weight(
        codes: T.Tensor((rows, quads), "uint8"),
        e: T.Tensor((rows, groups), "int8"),
        weight: T.Tensor((lines, width), "int8"),
        columns: T.int64,
        group_size: T.int64,
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


def scaled_weight(
    codes: torch.Tensor, e: torch.Tensor, e_base: int, group_size: int, columns: int, transposed: bool
) -> torch.Tensor:
    """codes uint8 [O, ceil(I/4)], e int8 [O, G] -> w^ int8 [O, I'], or transposed [I, O']; the primed extent
    is rounded up to 16 with zeros."""
    rows = codes.shape[0]
    shape = (columns, padded(rows)) if transposed else (rows, padded(columns))
    weight = torch.empty(shape, dtype=torch.int8, device=codes.device)
    scaling_kernel(codes.device, transposed)(dense(codes), dense(e), weight, columns, group_size, e_base)
    return weight
