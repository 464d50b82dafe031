"""2-bit codes to trits, legality checked (ARB-PACK-003)."""

from typing import Any

import tilelang.language as T
import torch

from ...layout import row_major
from ..launch import THREADS, kernel
from .codes import ALL_PADDING


@kernel
def unpacking_kernel(cuda: bool, fields: int, base: int) -> Any:
    """Four fields of base 4 a byte, or five of base 3: one trit a thread."""
    rows, columns = T.dynamic("rows", "int64"), T.dynamic("columns", "int64")
    width = T.dynamic("width", "int64")

    @T.prim_func
    def unpacked(whole: T.Tensor((rows, width), "uint8"), trits: T.Tensor((rows, columns), "int8")):
        with T.Kernel(T.ceildiv(rows * columns, THREADS), threads=THREADS) as block:
            for t in T.Parallel(THREADS):
                item = T.Cast("int64", block) * THREADS + t
                rest = T.alloc_var("int32", init=0)
                if item < rows * columns:
                    r = item // columns
                    c = item % columns
                    rest = T.Cast("int32", whole[r, c // fields])
                    for j in T.unroll(fields - 1):
                        if j < c % fields:
                            rest = rest // base
                    trits[r, c] = T.Cast("int8", rest % base - 1)

    return unpacked


def unpack_fields(whole: torch.Tensor, columns: int, fields: int, base: int) -> torch.Tensor:
    """uint8 [R, ceil(columns/fields)] of legal bytes -> trits int8 [R, columns]."""
    whole = row_major(whole)
    trits = torch.empty(len(whole), columns, dtype=torch.int8, device=whole.device)
    unpacking_kernel(whole.device, fields, base)(whole, trits)
    return trits


def _check(codes: torch.Tensor, columns: int) -> None:
    """Refuse code 3 and padding that is not code 1, naming the byte."""
    illegal = (codes & (codes >> 1) & ALL_PADDING) != 0  # both bits of a field
    used = columns - 4 * (codes.shape[1] - 1)
    illegal[:, -1] |= (codes[:, -1] >> 2 * used) != ALL_PADDING >> 2 * used
    places = illegal.nonzero()
    if len(places):
        row, place = places[0].tolist()
        byte = codes[row, place].item()
        raise ValueError(
            f"codes[{row}, {place}] = {byte} (0b{byte:08b}): "
            f"expected codes 0, 1 or 2, and code 1 in fields behind column {columns - 1}"
        )


def unpack(codes: torch.Tensor, columns: int) -> torch.Tensor:
    """codes uint8 [R, ceil(C/4)] -> trits int8 [R, C]. Raises ValueError for code 3 and for padding that is
    not code 1."""
    _check(codes, columns)
    return unpack_fields(codes, columns, 4, 4)
