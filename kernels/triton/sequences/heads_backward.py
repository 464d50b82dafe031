"""The gradient of `heads` (ARB-HEAD-005)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ...layout import row_major
from ..launch import require_device
from ..rows.fixed_point import coarse, nan_where, row_sums, shifted
from .heads import launch_slices
from .slices import angles, fixed, halves, normed, places_of


@triton.jit
def gradients(dq, dk, dv, part, own, inside, half, BLOCK: tl.constexpr):
    """Both halves of the slices' gradients, each from its own array."""
    q, q_2 = halves(dq, own, inside & (part == 0), half, BLOCK)
    k, k_2 = halves(dk, own, inside & (part == 1), half, BLOCK)
    v, v_2 = halves(dv, own, inside & (part == 2), half, BLOCK)
    of_q, of_k = (part == 0)[:, None], (part == 1)[:, None]
    return tl.where(of_q, q, tl.where(of_k, k, v)), tl.where(of_q, q_2, tl.where(of_k, k_2, v_2))


@triton.jit(do_not_specialize=["slices", "positions"])
def heads_backward_kernel(
    dq, dk, dv, x, cos, sin, dx, slices, positions, heads, half, kappa,
    SLICES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """dx as x [B, P, 3, N, 2, H], SLICES slices a program."""
    r = tl.program_id(0).to(tl.int64) * SLICES + tl.arange(0, SLICES)
    inside = r < slices
    part, start, own = places_of(r, heads, half)
    first, second = halves(x, start, inside, half, BLOCK)
    f, g, e, total, factor, bound = normed(first, second, half)
    first, second = gradients(dq, dk, dv, part, own, inside, half, BLOCK)
    a, b, e_d = fixed(first, second)
    scale = tl.where(part == 0, kappa, 1.0)[:, None]
    y, z = a.to(tl.float32) * scale, b.to(tl.float32) * scale
    c, s = angles(cos, sin, (r // (3 * heads)) % positions, inside, half, BLOCK)
    turns = (part < 2)[:, None]
    y, z = tl.where(turns, y * c + z * s, y), tl.where(turns, z * c - y * s, z)
    along = row_sums(coarse(f), coarse(y.to(tl.int32))) + row_sums(coarse(g), coarse(z.to(tl.int32)))
    share = tl.where(factor == bound, 0.0, tl.div_rn(along.to(tl.float32), total.to(tl.float32)))[:, None]
    y = (y - f.to(tl.float32) * share) * factor[:, None]
    z = (z - g.to(tl.float32) * share) * factor[:, None]
    poisoned = ((e == 127) | (e_d == 127))[:, None]
    i = tl.arange(0, BLOCK)
    at = dx + start[:, None] + i[None, :]
    mask = inside[:, None] & (i < half)[None, :]
    tl.store(at, nan_where(poisoned, shifted(y, (e_d - e)[:, None])), mask=mask)
    tl.store(at + half, nan_where(poisoned, shifted(z, (e_d - e)[:, None])), mask=mask)


def heads_backward(
    dq: torch.Tensor,
    dk: torch.Tensor,
    dv: torch.Tensor,
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
) -> torch.Tensor:
    """dq, dk, dv float32 [B, P, N, 2, H], x float32 [B, P, 3, N, 2, H], cos and sin int16 [P, H] -> dx."""
    require_device("heads_backward", x)
    x = row_major(x)
    dx = torch.empty_like(x)
    launch_slices(heads_backward_kernel, x, *map(row_major, (dq, dk, dv, x, cos, sin)), dx)
    return dx
