"""The update of an embedding table: rows that occur are updated, no other row changes in any byte
(ARB-EMB-004, -005)."""

from typing import Any

import tilelang.language as T
import torch

from ...layout import row_major
from ..launch import THREADS, InPlace, kernel
from ..update.ternary_update import TableRows, apply_update
from .embedding_gradient import embedding_gradient

LARGEST_COUNT = 2**31 - 1


@kernel
def marking_kernel(cuda: bool) -> Any:
    """Sets touched of the rows that occur: several threads may write the same 1."""
    tokens, rows = T.dynamic("tokens", "int64"), T.dynamic("rows", "int64")

    @T.prim_func
    def mark_rows(token: T.Tensor((tokens,), "int64"), touched: T.Tensor((rows,), "int8")):
        with T.Kernel(T.ceildiv(tokens, THREADS), threads=THREADS) as block:
            for t in T.Parallel(THREADS):
                item = T.Cast("int64", block) * THREADS + t
                if item < tokens:
                    touched[token[item]] = T.int8(1)

    return mark_rows


@kernel
def counting_kernel(cuda: bool) -> Any:
    """Counts an update of the touched rows, a row a thread."""
    rows = T.dynamic("rows", "int64")

    @T.prim_func
    def advance_counters(touched: T.Tensor((rows,), "int8"), step_counter: T.Tensor((rows,), "int32")):
        with T.Kernel(T.ceildiv(rows, THREADS), threads=THREADS) as block:
            for t in T.Parallel(THREADS):
                row = T.Cast("int64", block) * THREADS + t
                if row < rows:
                    grows = (touched[row] != 0) and (step_counter[row] < LARGEST_COUNT)
                    step_counter[row] = step_counter[row] + T.if_then_else(grows, 1, 0)

    return advance_counters


def embedding_update(
    tokens: torch.Tensor,
    q: torch.Tensor,
    e_g: torch.Tensor,
    codes: torch.Tensor,
    t_accum: torch.Tensor,
    e: torch.Tensor,
    corr_accum: torch.Tensor,
    moment: torch.Tensor,
    step_counter: torch.Tensor,
    *how: Any,
) -> torch.Tensor:
    """tokens int64 [T], q int8 [T, D], e_g int8 [1]; the state in place; `how` as in the specification ->
    counts int64 [5]. Raises ValueError for a token outside the table."""
    rows = len(codes)
    gradient = embedding_gradient(tokens, q, rows)
    touched = torch.zeros(rows, dtype=torch.int8, device=codes.device)
    marking_kernel(codes.device)(row_major(tokens), touched)
    with InPlace(step_counter) as (counter,):
        table = TableRows(touched, counter)
        counts = apply_update(gradient, e_g, codes, t_accum, e, corr_accum, moment, table, *how)
        counting_kernel(codes.device)(touched, counter)
    return counts
