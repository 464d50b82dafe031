"""How far a step's votes are beyond what is usual, layer by layer, and the gain that this leaves (ARB-CLIP).

A batch unlike those before gives gradients far larger than their moments, and so votes that undo what was
learnt. A layer's gain is divided by the root mean square of its votes, where that is over 1, as the update
clipping of Adafactor (Shazeer and Stern 2018, arXiv 1804.04235) and StableAdamW (Wortsman et al. 2023,
arXiv 2304.13013) does it; here in integers, and from a sample of rows, whose gradient costs little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import torch
import torch.nn.functional as F

from arbitor.kernels.eager.update.groups import groups_of, lengths
from arbitor.kernels.eager.update.moment import BIAS, MANTISSA, MASK, MEMORY, advance, mean_square

from ..state import TernaryShape
from . import sums
from .prepared import Prepared
from .trainable import Trainable

ROWS = 32
Layer = TypeVar("Layer", bound=Trainable)
ONE = 16  # bits of a ratio's fraction


@dataclass(frozen=True)
class _Place:
    """Where the sample of a layer of some shape is, int64: its rows [n], and of each of their groups the row,
    the place in arrays [O, G], and the length, [n * G]."""

    rows: torch.Tensor
    rows_of_groups: torch.Tensor
    groups: torch.Tensor
    count: torch.Tensor


@lru_cache(maxsize=1024)
def _place(shape: TernaryShape, device: torch.device) -> _Place:
    """Of rows j * O // n, n = 32 at most."""
    n = min(shape.rows, ROWS)
    rows = torch.arange(n, device=device) * shape.rows // n
    groups = rows[:, None] * shape.groups + torch.arange(shape.groups, device=device)
    count = lengths(shape.columns, shape.group_size, device)
    return _Place(rows, rows.repeat_interleave(shape.groups), groups.flatten(), count.repeat(n))


@lru_cache(maxsize=64)
def _ends(groups: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """The last line of each layer, of samples of so many groups."""
    return torch.tensor(groups, device=device).cumsum(0) - 1


def squared_votes(layers: Mapping[Layer, Prepared], octaves: int) -> torch.Tensor:
    """A and B of each layer, int64 [layers, 2] (ARB-CLIP-001). Nothing waits for the device; the groups of
    all layers go through one computation, because a layer's alone would be many small ones."""
    places = {layer: _place(layer.shape, layer.codes.device) for layer in layers}
    widest = max(layer.shape.group_size for layer in layers)
    gradients, exponents, moments, counts = [], [], [], []
    for layer, place in places.items():
        gradient, e_g = _sample(layer, layers[layer], place, octaves)
        gradients.append(_lines(gradient, layer.shape.group_size, widest))
        exponents.append(e_g)
        moments.append(layer.moment.view(-1)[place.groups])
        counts.append(place.count)
    home = gradients[0].device
    sizes, e_g = _joined(gradients, home).long().abs(), _joined(exponents, home).long()[:, None]
    moment, count = _joined(moments, home)[:, None], _joined(counts, home)[:, None]
    square = mean_square(sizes[:, None], sizes.sum(1, keepdim=True), count, e_g)
    ratio, known = _ratio(square, advance(moment, square, _weight(places, home)))
    so_far = torch.cat([ratio, known << ONE], dim=1).cumsum(0)
    ends = _ends(tuple(len(place.groups) for place in places.values()), so_far.device)
    return so_far[ends].diff(dim=0, prepend=so_far.new_zeros(1, 2))


def _sample(
    layer: Trainable, prepared: Prepared, place: _Place, octaves: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient int32 [n, I] of the rows looked at, and its exponent for each group, int8 [n * G]."""
    q_g, q_x = prepared.operands
    part = q_g.t().index_select(0, place.rows).t()
    gradient = sums.weight_gradient(layer.backend, part, q_x, layer.ranks)
    shifted = sums.in_parts(len(q_g), layer.ranks)
    e_g = prepared.lowered(octaves + layer.rank_octaves - sums.SHIFT * shifted)
    return gradient, e_g[place.rows_of_groups]


def _lines(gradient: torch.Tensor, group_size: int, widest: int) -> torch.Tensor:
    """[n, I] -> [n * G, widest], a group a line, with zeros behind it."""
    lines = groups_of(gradient, group_size).flatten(0, 1)
    return F.pad(lines, (0, widest - group_size)) if group_size < widest else lines


def _joined(parts: Sequence[torch.Tensor], home: torch.device) -> torch.Tensor:
    """Of layers that may be on several devices."""
    return torch.cat([part.to(home) for part in parts])


def _weight(places: Mapping[Layer, _Place], home: torch.device) -> int | torch.Tensor:
    """How many updates the moments of each group are a mean of: a number, where layers have had as many."""
    weights = {layer: min(layer.updates + 1, MEMORY) for layer in places}
    if len(set(weights.values())) == 1:
        return next(iter(weights.values()))
    return _joined([p.count.new_full((len(p.count), 1), weights[m]) for m, p in places.items()], home)


def _ratio(
    square: tuple[torch.Tensor, torch.Tensor], moment: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A mean square over the moment that it went into, with ONE bits of fraction, and whether there is one;
    both int64."""
    a, power = square
    m = moment.long() & MASK
    up = power - ((moment.long() >> MANTISSA) - BIAS)
    known = m > 0
    # a moment is at least about 1/128 of what went into it
    ratio = ((a << ONE + up.clamp(0, 10)) >> (-up).clamp(0, 62)) // m.clamp(min=1)
    return torch.where(known, ratio, 0), known.long()
