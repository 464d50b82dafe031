"""1 / (1 + e^-x), element by element (ARB-SOFT-003)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...layout import row_major
from ..launch import float_overflow, pick, require_device
from ..quantise.exponents import magnitude
from ..rows.fixed_point import EXACT, nan_where
from .exponential import octaves, weight

BLOCK = pick(1024, 65536)


@triton.jit
def sigmoid_kernel(x, y, count, BLOCK: tl.constexpr):
    """y of `count` elements, BLOCK a program."""
    n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(x + n, mask=n < count, other=0.0)
    bits = magnitude(values)
    nan = bits > 0x7F800000
    w = weight(octaves(tl.where(nan, 0, bits).to(tl.float32, bitcast=True)))
    one = tl.zeros_like(w) + 1073741824
    above = tl.where(values < 0.0, w, one).to(tl.float32)
    tl.store(y + n, nan_where(nan, tl.div_rn(above, (one + w).to(tl.float32))), mask=n < count)


def sigmoid(x: torch.Tensor) -> torch.Tensor:
    """x float32 [R, C] -> y float32 [R, C]."""
    require_device("sigmoid", x)
    x = row_major(x)
    y = torch.empty_like(x)
    with float_overflow():
        sigmoid_kernel[(triton.cdiv(x.numel(), BLOCK),)](x, y, x.numel(), BLOCK=BLOCK, num_warps=4, **EXACT)
    return y
