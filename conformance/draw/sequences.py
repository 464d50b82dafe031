"""What heads and attention are called with: the builders of the operations on sequences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from arbitor.conformance.draw import arrays
from arbitor.conformance.draw.arrays import Array
from arbitor.conformance.draw.draws import Draws
from arbitor.conformance.judge.target import Arguments

POISON = -128
FEW_HEADS = (1, 2, 3)  # each is programs of its own, which an interpreter takes one after another
FEW = 200  # a head's number takes the oracle six rounded products
ANGLES: arrays.Kinds = {
    "mixed": arrays.between(-(2**14), 2**14),
    "none": arrays.among(2**14),
    "quarters": arrays.among(-(2**14), 0, 2**14),
    "any": arrays.between(-(2**15), 2**15 - 1),
}


def _slices(draws: Draws, name: str, *shape: int) -> torch.Tensor:
    """float32 of this shape, the last two axes a slice, each at a scale of its own."""
    return draws.stored(
        name, draws.floats(name, (int(np.prod(shape[:-2])), shape[-2] * shape[-1])).reshape(shape)
    )


def _angles(draws: Draws, positions: int, half: int) -> Arguments:
    return {name: draws.tensor(name, ANGLES, (positions, half)) for name in ("cos", "sin")}


def _heads(draws: Draws) -> Arguments:
    batch, positions, heads, half = draws.extents("BPNH", share=FEW)
    return {"x": _slices(draws, "x", batch, positions, 3, heads, 2, half)} | _angles(draws, positions, half)


def _heads_backward(draws: Draws) -> Arguments:
    batch, positions, heads, half = draws.extents("BPNH", share=FEW)
    shape = (batch, positions, heads, 2, half)
    gradients: Arguments = {name: _slices(draws, name, *shape) for name in ("dq", "dk", "dv")}
    x = _slices(draws, "x", batch, positions, 3, heads, 2, half)
    return gradients | {"x": x} | _angles(draws, positions, half)


def _with_poison(draws: Draws, array: Array) -> Array:
    """Sometimes with one slice of -128."""
    if draws.choose((False, False, True)):
        slices = array.reshape(-1, array.shape[-1])
        slices[draws.choose(range(len(slices)))] = POISON
    return array


def _attended(draws: Draws) -> tuple[dict[str, Array], int]:
    """q, k and v int64, and the window."""
    batch, heads = (draws.fixed.get(letter, draws.choose(FEW_HEADS)) for letter in "BN")
    dim, queries, positions = draws.extents("DAS", share=batch * heads)
    queries, positions = min(queries, positions), max(queries, positions)
    found = {}
    for name, count in (("q", queries), ("k", positions), ("v", positions)):
        array = draws.array(name, arrays.QUANTISED, (batch, count, heads, dim), (0,))
        found[name] = array if name in draws.at else _with_poison(draws, array)
    return found, draws.integer("window", positions, 0, 1, 2, 5, 64)


def _attention(draws: Draws) -> Arguments:
    found, window = _attended(draws)
    return {name: draws.stored(name, array) for name, array in found.items()} | {"window": window}


def _attention_backward(draws: Draws) -> Arguments:
    """top is the largest score of all positions, or about it: an octave is some thousand units."""
    found, window = _attended(draws)
    batch, queries, heads, dim = found["q"].shape
    scores = np.einsum("bind,bjnd->binj", found["q"], found["k"])
    largest = scores.max(axis=3)
    tops: arrays.Kinds = {
        "mixed": lambda rng, shape: largest,
        "about": lambda rng, shape: largest + rng.integers(-5000, 50_000, shape),
    }
    most = 16383 * found["k"].shape[1]
    totals: arrays.Kinds = {"mixed": arrays.between(16383, most), "one": arrays.among(16383)}
    floats_of = {
        name: draws.stored(name, draws.floats(name, (batch * queries, heads * dim)).reshape(found["q"].shape))
        for name in ("dy", "y")
    }
    sums = {
        "top": draws.tensor("top", tops, largest.shape),
        "total": draws.tensor("total", totals, largest.shape),
    }
    attended = {name: draws.stored(name, array) for name, array in found.items()}
    return floats_of | sums | attended | {"window": window}


SEQUENCES: dict[str, Callable[[Draws], Arguments]] = {
    "heads": _heads,
    "heads_backward": _heads_backward,
    "attention": _attention,
    "attention_backward": _attention_backward,
}
