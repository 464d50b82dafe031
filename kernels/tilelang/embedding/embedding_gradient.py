"""Sums of gradient rows by token; integers, so the order of the additions is free (ARB-EMB-003)."""

from typing import Any

import tilelang.language as T
import torch

from ...checks import check_tokens
from ...layout import row_major
from ..launch import THREADS, kernel


@kernel
def sums_kernel(cuda: bool) -> Any:
    """One element of q a thread, added atomically; on the CPU target one after another."""
    tokens, rows, columns = (T.dynamic(name, "int64") for name in ("tokens", "rows", "columns"))

    @T.prim_func
    def sums_by_token(
        token: T.Tensor((tokens,), "int64"),
        q: T.Tensor((tokens, columns), "int8"),
        gradient: T.Tensor((rows, columns), "int32"),
    ):
        with T.Kernel(T.ceildiv(tokens * columns, THREADS), threads=THREADS) as block:
            for t in T.Parallel(THREADS):
                item = T.Cast("int64", block) * THREADS + t
                if item < tokens * columns:
                    row = token[item // columns]
                    if cuda:
                        T.device_assert((row >= 0) & (row < rows), no_stack_info=True)
                    value = T.Cast("int32", q[item // columns, item % columns])
                    T.atomic_add(gradient[row, item % columns], value)

    return sums_by_token


def embedding_gradient(tokens: torch.Tensor, q: torch.Tensor, rows: int) -> torch.Tensor:
    """tokens int64 [T], q int8 [T, D] -> G int32 [V, D]. Raises ValueError for a bad token."""
    check_tokens(tokens, rows)
    gradient = torch.zeros(rows, q.shape[1], dtype=torch.int32, device=q.device)
    sums_kernel(q.device)(row_major(tokens), row_major(q), gradient)
    return gradient
