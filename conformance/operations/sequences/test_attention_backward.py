"""`attention_backward`: the gradients of `attention`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from arbitor.conformance.draw.arrays import POISON_SPIKES
from arbitor.conformance.judge.target import Arguments, Target
from arbitor.conformance.operations.common import agreement, from_bits, layouts, refusals, repetition, to_bits
from arbitor.conformance.operations.sequences.test_attention import attended
from arbitor.kernels.heads import scale_of

test_agrees, test_ends = agreement(
    "attention_backward", "ARB-ATT-005", "ARB-ATT-006", "ARB-ATT-001", "ARB-FLOAT-001", "ARB-FLOAT-002"
)
test_refuses = refusals("attention_backward")
test_layouts = layouts("attention_backward")
test_repeats = repetition("attention_backward")


def with_gradient(target: Target, arguments: Arguments, window: int, size: float = 1.0) -> Arguments:
    """The arguments of the backward of a forward, and a gradient of that size."""
    forward = target.aid("attention", arguments | {"window": window})
    dy = torch.randn(arguments["q"].shape, generator=torch.Generator().manual_seed(9)) * size
    return {"dy": dy, **{n: forward[n] for n in ("y", "top", "total")}, **arguments, "window": window}


@pytest.mark.clause("ARB-ATT-005", "ARB-ATT-006")
@pytest.mark.parametrize("dim", [2, 32, 256])
@pytest.mark.parametrize("window", [0, 7, 30])
@pytest.mark.parametrize("size", [1.0, 2.0**-70])
def test_it_is_the_gradient(target: Target, dim: int, window: int, size: float) -> None:
    """Of softmax attention in float64 with respect to q, k and v in units of 2^-5: within 2^-9 of the
    largest, but for what weights of 14 bits leave out."""
    found = target.check(
        "attention_backward",
        arguments := with_gradient(target, attended(1, 30, 30, 2, dim, 40), window, size),
    )
    q, k, v = (arguments[name].double().transpose(1, 2).requires_grad_() for name in ("q", "k", "v"))
    scores = q @ k.mT * 2.0 ** -scale_of(dim)[1] * np.log(2)
    if window:
        behind = torch.arange(30)[:, None] - torch.arange(30)
        scores = scores.masked_fill((behind < 0) | (behind >= window), -torch.inf)
    y = scores.softmax(-1) @ v / 32
    (y * arguments["dy"].double().transpose(1, 2)).sum().backward()
    for name, x in (("dq", q), ("dk", k), ("dv", v)):
        assert x.grad is not None
        right = x.grad.transpose(1, 2) * 32
        assert (found[name] - right).abs().max() < right.abs().max() / 512, name


@pytest.mark.clause("ARB-ATT-005")
def test_small_gradients_beside_large_ones(target: Target) -> None:
    """Of 2^-12 of the largest of its head, a gradient keeps seven bits: nothing is rounded to a few."""
    arguments = with_gradient(target, attended(1, 16, 16, 1, 8, 30), 4)
    arguments["dy"][:, 8:] *= 2.0**-12
    found = target.check("attention_backward", arguments)
    small = target.check(
        "attention_backward",
        arguments | {"dy": arguments["dy"] * (torch.arange(16) >= 8)[None, :, None, None]},
    )
    for name in ("dq", "dk", "dv"):
        alone, beside = small[name][:, 11:], found[name][:, 11:]
        assert (alone - beside).abs().max() < alone.abs().max() / 128, name


@pytest.mark.clause("ARB-ATT-006")
def test_positions_that_no_query_sees(target: Target) -> None:
    """Their gradients are +0.0."""
    found = target.check("attention_backward", with_gradient(target, attended(1, 2, 9, 1, 4), 3))
    for name in ("dk", "dv"):
        assert to_bits(found[name][0, :5].flatten()) == [0] * 20
        assert found[name][0, 5:].ne(0).any(-1).all()


@pytest.mark.clause("ARB-ATT-006", "ARB-FLOAT-002")
@pytest.mark.parametrize("size", [2.0**120, 2.0**-100, 2.0**-118])
def test_what_leaves_float32(target: Target, size: float) -> None:
    target.check("attention_backward", with_gradient(target, attended(1, 5, 5, 2, 3), 5, size))


@pytest.mark.clause("ARB-ATT-006")
@pytest.mark.parametrize("poisoned", ["dy", "y"])
@pytest.mark.parametrize("pattern", POISON_SPIKES, ids=hex)
def test_poison_takes_its_sequence_and_head(target: Target, pattern: int, poisoned: str) -> None:
    arguments = with_gradient(target, attended(2, 4, 6, 2, 3), 2)
    arguments[poisoned][1, 3, 0, 2] = from_bits([pattern])[0]
    found = target.check("attention_backward", arguments)
    for name in ("dq", "dk", "dv"):
        assert to_bits(found[name][1, :, 0].flatten()) == [0x7FC00000] * found[name][1, :, 0].numel()
        assert found[name].isnan().sum() == found[name][1, :, 0].numel()


@pytest.mark.clause("ARB-ATT-006", "ARB-ATT-004")
def test_poison_of_the_forward_is_poison_here(target: Target) -> None:
    """A total of 0 makes a G that is not finite, of a gradient of 0 too."""
    attending = attended(1, 4, 4, 1, 3)
    attending["k"][0, 0, 0] = -128
    arguments = with_gradient(target, attending, 2)
    for dy in (arguments["dy"], torch.zeros_like(arguments["dy"])):
        found = target.check("attention_backward", arguments | {"dy": dy})
        assert all(found[name].isnan().all() for name in ("dq", "dk", "dv"))


@pytest.mark.clause("ARB-ATT-005", "ARB-ATT-006")
def test_a_long_sequence(target: Target) -> None:
    """More scores than are made at a time, more queries than a tile has, and a window whose last query begins
    a tile of 64 or 256."""
    positions = 70 if "lists" in (target.judge.arrays, target.backend.arrays) else 2100
    arguments = with_gradient(target, attended(1, positions, positions, 1, 2), 1538)
    target.check("attention_backward", arguments)
