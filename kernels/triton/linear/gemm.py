"""The integer product of this backend: int8 [M, K] times int8 [N, K] transposed, int32 sums, two epilogues.

Hopper's 8-bit matrix units read both operands along the axis of the sum, so every product of the
specification is brought to this one form ("nt", K-major): `k_major` finds that layout or copies into it.
Tiles come through tensor descriptors, which read zeros outside an operand, and zeros add nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from ...layout import row_major
from ..launch import ALIGNMENT, empty_rows, float_overflow
from ..quantise.exponents import scaled_rows


@dataclass(frozen=True)
class Config:
    """Tile of one program and how it is run."""

    block_m: int
    block_n: int
    block_k: int
    warps: int
    stages: int


# From the smallest extent that each is meant for. All of them give the same bits (ARB-UPD-003). Three stages
# of the large tile leave room for two programs on a multiprocessor: one stores while the other multiplies.
CONFIGS: tuple[tuple[int, Config], ...] = (
    (0, Config(64, 64, 128, 4, 4)),
    (1024, Config(128, 128, 128, 8, 3)),
)


def config_for(rows: int, columns: int) -> Config:
    """The tile for a product of that size: large ones where they fill the device."""
    smaller = min(rows, columns)
    return [config for least, config in CONFIGS if least <= smaller or least == 0][-1]


@triton.jit
def tile_of(program, rows, columns, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, SPAN: tl.constexpr):
    """First row and column of a program's tile: SPAN rows of tiles at a time, so that operands stay in L2."""
    tiles_m, tiles_n = tl.cdiv(rows, BLOCK_M), tl.cdiv(columns, BLOCK_N)
    band = program // (SPAN * tiles_n)
    height = tl.minimum(tiles_m - band * SPAN, SPAN)
    within = program % (SPAN * tiles_n)
    return (band * SPAN + within % height) * BLOCK_M, (within // height) * BLOCK_N


@triton.jit
def product(a, b, m0, n0, inner, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    """int32 [BLOCK_M, BLOCK_N] of the tile at (m0, n0) from descriptors a [M, K] and b [N, K]."""
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)
    for k in range(0, inner, BLOCK_K):
        total = tl.dot(a.load([m0, k]), b.load([n0, k]).T, total, out_dtype=tl.int32)
    return total


@triton.jit
def gemm_kernel(
    a,
    b,
    exponents,
    out,
    rows,
    columns,
    inner,
    e_base,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    SCALED: tl.constexpr,
):
    """out [M, N]: the sums, or their float32 values times 2^min(e + e_base, 127) (ARB-LIN-003, -004)."""
    m0, n0 = tile_of(tl.program_id(0), rows, columns, BLOCK_M, BLOCK_N, 16)
    total = product(a, b, m0, n0, inner, BLOCK_M, BLOCK_N, BLOCK_K)
    m, n = m0 + tl.arange(0, BLOCK_M), n0 + tl.arange(0, BLOCK_N)
    places = out + m.to(tl.int64)[:, None] * columns + n[None, :]
    inside = (m < rows)[:, None] & (n < columns)[None, :]
    if SCALED:
        e = tl.load(exponents + m, mask=m < rows, other=0).to(tl.int32)
        tl.store(places, scaled_rows(total, e[:, None], e_base), mask=inside)
    else:
        tl.store(places, total, mask=inside)


def k_major(operand: torch.Tensor) -> torch.Tensor:
    """The operand [M, K] with elements adjacent along K, rows on 16-byte boundaries; a copy if it is not."""
    columns = operand.shape[1]
    adjacent = operand.stride(1) == 1 and operand.stride(0) >= columns
    if adjacent and operand.stride(0) % ALIGNMENT == 0 and operand.data_ptr() % ALIGNMENT == 0:
        return operand
    rows = operand.shape[0]
    return empty_rows(rows, columns, operand.device).copy_(operand)


def descriptor(operand: torch.Tensor, block: tuple[int, int]) -> TensorDescriptor:
    """A descriptor of a K-major operand, which reads zeros outside it."""
    strides = [max(operand.stride(0), ALIGNMENT), 1]
    return TensorDescriptor(operand, list(operand.shape), strides, list(block))


def gemm(
    a: torch.Tensor,
    b: torch.Tensor,
    exponents: torch.Tensor | None = None,
    e_base: int = 0,
    config: Config | None = None,
) -> torch.Tensor:
    """a int8 [M, K], b int8 [N, K] -> int32 [M, N], or float32 [M, N] with a row exponent int8 [M]."""
    (rows, inner), columns = a.shape, b.shape[0]
    c = config or config_for(rows, columns)
    a, b = k_major(a), k_major(b)
    dtype = torch.int32 if exponents is None else torch.float32
    out = torch.empty(rows, columns, dtype=dtype, device=a.device)
    grid = (triton.cdiv(rows, c.block_m) * triton.cdiv(columns, c.block_n),)
    with float_overflow():
        gemm_kernel[grid](
            descriptor(a, (c.block_m, c.block_k)),
            descriptor(b, (c.block_n, c.block_k)),
            out if exponents is None else row_major(exponents),
            out,
            rows,
            columns,
            inner,
            e_base,
            BLOCK_M=c.block_m,
            BLOCK_N=c.block_n,
            BLOCK_K=c.block_k,
            SCALED=exponents is not None,
            num_warps=c.warps,
            num_stages=c.stages,
        )
    return out
