"""Rows of the table by token (ARB-EMB-001)."""

from typing import Any

import tilelang.language as T
import torch

from ...checks import check_tokens
from ...layout import row_major
from ..launch import THREADS, kernel
from ..packing.codes import trit, widen
from ..quantise.exponents import power_of_two


@kernel
def lookup_kernel(cuda: bool) -> Any:
    """One element of y a thread."""
    tokens, rows = T.dynamic("tokens", "int64"), T.dynamic("rows", "int64")
    columns, quads = T.dynamic("columns", "int64"), T.dynamic("quads", "int64")
    groups = T.dynamic("groups", "int64")

    @T.prim_func
    def rows_by_token(
        token: T.Tensor((tokens,), "int64"),
        codes: T.Tensor((rows, quads), "uint8"),
        e: T.Tensor((rows, groups), "int8"),
        y: T.Tensor((tokens, columns), "float32"),
        group_size: T.int64,
    ):
        with T.Kernel(T.ceildiv(tokens * columns, THREADS), threads=THREADS) as block:
            for t in T.Parallel(THREADS):
                item = T.Cast("int64", block) * THREADS + t
                if item < tokens * columns:
                    row = token[item // columns]
                    d = item % columns
                    if cuda:
                        T.device_assert((row >= 0) & (row < rows), no_stack_info=True)
                    value = T.Cast("float32", trit(widen(codes[row, d // 4]), T.Cast("int32", d % 4)))
                    y[item // columns, d] = value * power_of_two(widen(e[row, d // group_size]))

    return rows_by_token


def embedding_forward(
    tokens: torch.Tensor, codes: torch.Tensor, e: torch.Tensor, group_size: int, columns: int
) -> torch.Tensor:
    """tokens int64 [T], codes uint8 [V, ceil(D/4)], e int8 [V, G] -> y float32 [T, D]. Raises ValueError for
    a bad token."""
    check_tokens(tokens, codes.shape[0])
    y = torch.empty(len(tokens), columns, dtype=torch.float32, device=codes.device)
    lookup_kernel(codes.device)(row_major(tokens), row_major(codes), row_major(e), y, group_size)
    return y
