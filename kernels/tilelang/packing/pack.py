"""Trits to 2-bit codes (ARB-PACK-001, -002, -004)."""

from typing import Any

import tilelang.language as T
import torch

from ...layout import row_major
from ..launch import THREADS, kernel
from .codes import PADDING


@kernel
def packing_kernel(cuda: bool, fields: int, base: int) -> Any:
    """Four fields of base 4 a byte, or five of base 3: one byte a thread."""
    rows, columns = T.dynamic("rows", "int64"), T.dynamic("columns", "int64")
    width = T.dynamic("width", "int64")

    @T.prim_func
    def packed(trits: T.Tensor((rows, columns), "int8"), whole: T.Tensor((rows, width), "uint8")):
        with T.Kernel(T.ceildiv(rows * width, THREADS), threads=THREADS) as block:
            for t in T.Parallel(THREADS):
                item = T.Cast("int64", block) * THREADS + t
                byte = T.alloc_var("int32", init=0)
                if item < rows * width:
                    r = item // width
                    c = item % width * fields
                    byte = 0
                    for j in T.unroll(fields):
                        place = fields - 1 - j
                        code = T.alloc_var("int32", init=PADDING)
                        code = PADDING
                        if c + place < columns:
                            code = T.Cast("int32", trits[r, c + place]) + 1
                        byte = byte * base + code
                    whole[r, item % width] = T.Cast("uint8", byte)

    return packed


def check_trits(trits: torch.Tensor) -> None:
    """Refuse a value outside -1..1, naming its place."""
    illegal = ((trits < -1) | (trits > 1)).nonzero()
    if len(illegal):
        row, column = illegal[0].tolist()
        raise ValueError(f"trits[{row}, {column}] = {trits[row, column].item()}, expected -1, 0 or 1")


def pack_fields(trits: torch.Tensor, fields: int, base: int) -> torch.Tensor:
    """trits int8 [R, C] -> uint8 [R, ceil(C/fields)]. Raises ValueError for a value outside -1..1."""
    check_trits(trits)
    trits = row_major(trits)
    rows, columns = trits.shape
    whole = torch.empty(rows, -(-columns // fields), dtype=torch.uint8, device=trits.device)
    packing_kernel(trits.device, fields, base)(trits, whole)
    return whole


def pack(trits: torch.Tensor) -> torch.Tensor:
    """trits int8 [R, C] -> codes uint8 [R, ceil(C/4)]. Raises ValueError for a value outside -1..1."""
    return pack_fields(trits, 4, 4)
