"""ARB-CLIP in plain Python integers, on the oracle's moments: what a layer's gain is for one update."""

from __future__ import annotations

from math import isqrt

import torch

from arbitor.components import TernaryModule
from arbitor.conformance.oracle.moment import mean_square, next_moment, unpacked

ROWS = 32


def squared_votes(
    module: TernaryModule, q_g: torch.Tensor, q_x: torch.Tensor, e_g: list[int], shift: int
) -> tuple[int, int]:
    """A and B of ARB-CLIP-001, from q_g int8 [T, O] and q_x int8 [T, I], whose G is shifted by so much."""
    count, size = module.shape.rows, module.shape.group_size
    looked = min(count, ROWS)
    rows = [j * count // looked for j in range(looked)]
    gradient = ((q_g[:, rows].double().t() @ q_x.double()).long() + (1 << shift >> 1)) >> shift
    votes = known = 0
    for o, values in zip(rows, gradient.tolist(), strict=True):
        for group, first in enumerate(range(0, len(values), size)):
            a, x_a = mean_square(values[first : first + size], e_g[o])
            moment = int(module.state()["moment"][o, group])
            m, x = unpacked(next_moment(moment, (a, x_a), module.updates))
            if m:
                votes += (a << 16 << max(x_a - x, 0) >> max(x - x_a, 0)) // m
                known += 1
    return votes, known << 16


def clipped_gain(gain: int, votes: int, usual: int) -> int:
    """ARB-CLIP-002."""
    return gain if votes <= usual else isqrt(gain**2 * usual // votes)
