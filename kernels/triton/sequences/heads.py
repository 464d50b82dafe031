"""Queries, keys and values of heads: normalised, rotated, in int8 (ARB-HEAD-001 to -004)."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from ...heads import MOST_DIM, scale_of
from ...layout import row_major
from ..launch import block_of, float_overflow, pick, require_device
from ..rows.fixed_point import EXACT
from .slices import angles, halves, normed, places_of

TILE = pick(1024, 65536)  # numbers of half a tile


def launch_slices(kernel: Any, x: torch.Tensor, *arrays: Any) -> None:
    """Launch a kernel of (arrays, slices, positions, heads, half, kappa, SLICES, BLOCK) over x."""
    batch, positions, _, heads, _, half = x.shape
    slices, block = batch * positions * 3 * heads, block_of(half, 1, MOST_DIM // 2)
    together = block_of(slices, 1, max(TILE // block, 1))
    kappa, _ = scale_of(2 * half)
    with float_overflow():
        kernel[(triton.cdiv(slices, together),)](
            *(*arrays, slices, positions, heads, half, kappa),
            **{"SLICES": together, "BLOCK": block, "num_warps": 4, **EXACT},
        )


@triton.jit
def rounded(y):
    """Units of 2^-5, to nearest, within 127 (ARB-HEAD-003)."""
    whole = ((y * 2097152.0).to(tl.int32) + 32768) >> 16
    return tl.minimum(tl.maximum(whole, -127), 127)


@triton.jit(do_not_specialize=["slices", "positions"])
def heads_kernel(
    x, cos, sin, q, k, v, slices, positions, heads, half, kappa, SLICES: tl.constexpr, BLOCK: tl.constexpr
):
    """q, k, v [B, P, N, 2, H], SLICES slices a program."""
    r = tl.program_id(0).to(tl.int64) * SLICES + tl.arange(0, SLICES)
    inside = r < slices
    part, start, own = places_of(r, heads, half)
    first, second = halves(x, start, inside, half, BLOCK)
    f, g, e, _, factor, _ = normed(first, second, half)
    y, z = f.to(tl.float32) * factor[:, None], g.to(tl.float32) * factor[:, None]
    c, s = angles(cos, sin, (r // (3 * heads)) % positions, inside, half, BLOCK)
    turns = (part < 2)[:, None]
    scale = tl.where(part == 0, kappa, 1.0)[:, None]
    first = rounded(tl.where(turns, y * c - z * s, y) * scale)
    second = rounded(tl.where(turns, y * s + z * c, z) * scale)
    poisoned = (e == 127)[:, None]
    first = tl.where(poisoned, -128, first).to(tl.int8)
    second = tl.where(poisoned, -128, second).to(tl.int8)
    i = tl.arange(0, BLOCK)
    at = own[:, None] + i[None, :]
    mask = inside[:, None] & (i < half)[None, :]
    for number in tl.static_range(3):
        mine = mask & (part == number)[:, None]
        if number == 0:
            out = q
        elif number == 1:
            out = k
        else:
            out = v
        tl.store(out + at, first, mask=mine)
        tl.store(out + at + half, second, mask=mine)


def heads(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x float32 [B, P, 3, N, 2, H], cos and sin int16 [P, H] -> q, k, v int8 [B, P, N, 2, H]."""
    require_device("heads", x)
    x = row_major(x)
    shape = (*x.shape[:2], *x.shape[3:])
    q, k, v = (torch.empty(shape, dtype=torch.int8, device=x.device) for _ in range(3))
    launch_slices(heads_kernel, x, x, row_major(cos), row_major(sin), q, k, v)
    return q, k, v
