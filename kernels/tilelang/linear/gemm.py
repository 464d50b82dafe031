"""NT products of int8 matrices, both K-major, with int32 sums: the only layout that Hopper's 8-bit wgmma
takes."""

from typing import Any

import tilelang.language as T
import torch

from ..launch import kernel
from ..quantise.exponents import scaled_row


def _serial(scale: bool) -> Any:
    """The CPU lane's schedule: a plain triple loop. It proves the epilogue and the launchers, not the CUDA
    schedule."""
    m, n, k = (T.dynamic(name, "int64") for name in ("m", "n", "k"))

    @T.prim_func
    def product_nt(
        a: T.Tensor((m, k), "int8"),
        b: T.Tensor((n, k), "int8"),
        e_row: T.Tensor((m,), "int8"),
        c: T.Tensor((m, n), "float32" if scale else "int32"),
        e_base: T.int32,
    ):
        with T.Kernel(m) as row:
            total = T.alloc_var("int32", init=0)
            for column in T.serial(n):
                total = 0
                for i in T.serial(k):
                    total = total + T.Cast("int32", a[row, i]) * T.Cast("int32", b[column, i])
                if scale:
                    c[row, column] = scaled_row(total, T.Cast("int32", e_row[row]), e_base)
                else:
                    c[row, column] = total

    return product_nt


BLOCK_M, BLOCK_N, BLOCK_K, STAGES, MMA_THREADS = 128, 256, 128, 3, 256
WARPS = MMA_THREADS // 32
STAGED = BLOCK_N + 8  # words of a row of sums: what a warp holds of eight rows then meets no bank twice


def _tiled(scale: bool) -> Any:
    """The CUDA schedule: TMA into a ring of three stages, wgmma from shared memory. The sums leave
    through shared memory too, a row of the tile a warp: its exponent is loaded once, and memory is written in
    whole lines. TMA reads zeros outside the operands, and stores are masked, so any extent goes."""
    m, n, k = (T.dynamic(name, "int32") for name in ("m", "n", "k"))

    @T.prim_func
    def product_nt(
        a: T.Tensor((m, k), "int8"),
        b: T.Tensor((n, k), "int8"),
        e_row: T.Tensor((m,), "int8"),
        c: T.Tensor((m, n), "float32" if scale else "int32"),
        e_base: T.int32,
    ):
        with T.Kernel(T.ceildiv(n, BLOCK_N), T.ceildiv(m, BLOCK_M), threads=MMA_THREADS) as (bn, bm):
            a_tile = T.alloc_shared((BLOCK_M, BLOCK_K), "int8")
            b_tile = T.alloc_shared((BLOCK_N, BLOCK_K), "int8")
            total = T.alloc_fragment((BLOCK_M, BLOCK_N), "int32")
            sums = T.alloc_shared((BLOCK_M, STAGED), "int32")
            T.use_swizzle(8)
            multiply_nt(a, b, a_tile, b_tile, total, bm, bn, k)
            T.copy(total, sums[:, :BLOCK_N])
            for t in T.Parallel(MMA_THREADS):
                for turn in T.serial(BLOCK_M // WARPS):
                    line = turn * WARPS + t // 32
                    row = bm * BLOCK_M + line
                    if row < m:
                        e = T.alloc_var("int32", init=0)
                        e = T.Cast("int32", e_row[row])
                        for piece in T.unroll(BLOCK_N // 32):
                            column = bn * BLOCK_N + piece * 32 + t % 32
                            if column < n:
                                z = sums[line, piece * 32 + t % 32]
                                c[row, column] = scaled_row(z, e, e_base) if scale else z

    return product_nt


@T.macro
def multiply_nt(a: Any, b: Any, a_tile: Any, b_tile: Any, total: Any, bm: Any, bn: Any, k: Any) -> None:
    """total = one tile of a times b transposed; the main loop of every product here."""
    T.clear(total)
    for step in T.Pipelined(T.ceildiv(k, BLOCK_K), num_stages=STAGES):
        T.copy(a[bm * BLOCK_M, step * BLOCK_K], a_tile)
        T.copy(b[bn * BLOCK_N, step * BLOCK_K], b_tile)
        T.gemm(a_tile, b_tile, total, transpose_B=True)


@kernel
def product_kernel(cuda: bool, scale: bool) -> Any:
    return _tiled(scale) if cuda else _serial(scale)


def product_nt(
    a: torch.Tensor, b: torch.Tensor, e_row: torch.Tensor | None = None, e_base: int = 0
) -> torch.Tensor:
    """a int8 [M, K], b int8 [N, K], contiguous, K a multiple of 16 -> int32 [M, N]; with e_row int8 [M]
    float32 [M, N], scaled by rows (ARB-LIN-001)."""
    scale = e_row is not None
    rows = a.new_empty(a.shape[0]) if e_row is None else e_row
    c = a.new_empty(a.shape[0], b.shape[0], dtype=torch.float32 if scale else torch.int32)
    product_kernel(a.device, scale)(a, b, rows, c, e_base)
    return c
