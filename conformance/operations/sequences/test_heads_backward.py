"""`heads_backward`: the gradient of `heads` with respect to its argument."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from arbitor.conformance.draw.arrays import POISON_SPIKES
from arbitor.conformance.judge.target import Target
from arbitor.conformance.operations.common import (
    agreement,
    from_bits,
    layouts,
    refusals,
    repetition,
    to_bits,
)
from arbitor.kernels.heads import scale_of

test_agrees, test_ends = agreement(
    "heads_backward", "ARB-HEAD-005", "ARB-NORM-002", "ARB-FLOAT-001", "ARB-FLOAT-002"
)
test_refuses = refusals("heads_backward")
test_layouts = layouts("heads_backward")
test_repeats = repetition("heads_backward")


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def angles(positions: int, half: int) -> dict[str, torch.Tensor]:
    turn = torch.arange(positions * half, dtype=torch.float64).view(positions, half) * 0.37
    return {
        name: (2**14 * f(turn)).round().to(torch.int16)
        for name, f in (("cos", torch.cos), ("sin", torch.sin))
    }


@pytest.mark.clause("ARB-HEAD-005")
@pytest.mark.parametrize("half", [2, 9, 32, 128])
def test_it_is_the_gradient(target: Target, half: int) -> None:
    """Of the norm and the rotation in float64, queries times kappa, but for what fixed point drops."""
    x, table = drawn(2, 3, 3, 2, 2, half, seed=1), angles(3, half)
    gradients = {name: drawn(2, 3, 2, 2, half, seed=n) for n, name in enumerate(("dq", "dk", "dv"), 2)}
    found = target.check("heads_backward", gradients | {"x": x} | table)["dx"]
    wide = x.double().requires_grad_()
    y = wide / wide.square().mean((-1, -2), keepdim=True).sqrt()
    cos, sin = (table[name].double()[:, None] / 2**14 for name in ("cos", "sin"))

    def turned(part: torch.Tensor) -> torch.Tensor:
        first, second = part.unbind(-2)
        return torch.stack((first * cos - second * sin, first * sin + second * cos), -2)

    q, k, v = y.unbind(2)
    kappa, _ = scale_of(2 * half)
    terms = zip((turned(q) * kappa, turned(k), v), gradients.values(), strict=True)
    sum((part * gradient.double()).sum() for part, gradient in terms).backward()  # type: ignore[union-attr]
    right = wide.grad
    assert right is not None
    largest = right.abs().amax((-1, -2), keepdim=True)
    assert ((found - right).abs() < largest / 128).all()


@pytest.mark.clause("ARB-HEAD-005", "ARB-FLOAT-001")
@pytest.mark.parametrize("seed", range(3))
def test_no_product_is_fused(target: Target, seed: int) -> None:
    """Gradients that nearly cancel behind the rotation and behind the norm: what is left is rounding."""
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.integers(1, 2**23, (5, 4, 3, 2, 2, 4)).astype(np.float32))
    near = [x[:, :, part] * 3 + float(rng.integers(-3, 4)) for part in range(3)]
    table = {
        name: torch.from_numpy(rng.integers(11000, 12000, (4, 4)).astype(np.int16)) for name in ("cos", "sin")
    }
    target.check("heads_backward", dict(zip(("dq", "dk", "dv"), near, strict=True)) | {"x": x} | table)


@pytest.mark.clause("ARB-HEAD-005")
def test_where_the_factor_is_at_its_bound(target: Target) -> None:
    """There nothing is taken out of the gradient, and it is 1,024 times as large."""
    x, dv = torch.full((1, 1, 3, 1, 2, 2), 2.0**-12), torch.tensor([[[[[3.0, 4], [5, -6]]]]])
    zero = torch.zeros_like(dv)
    found = target.check("heads_backward", {"dq": zero, "dk": zero, "dv": dv, "x": x} | angles(1, 2))["dx"]
    assert found[0, 0, 2, 0].tolist() == [[3072, 4096], [5120, -6144]]
    assert found[0, 0, :2].eq(0).all()


@pytest.mark.clause("ARB-ROW-001", "ARB-HEAD-005")
@pytest.mark.parametrize("poisoned", ["dq", "dk", "dv", "x"])
@pytest.mark.parametrize("pattern", POISON_SPIKES, ids=hex)
def test_poison_takes_its_own_slice_only(target: Target, pattern: int, poisoned: str) -> None:
    arguments = {name: torch.ones(2, 2, 2, 2, 3) for name in ("dq", "dk", "dv")} | {
        "x": torch.ones(2, 2, 3, 2, 2, 3)
    }
    part = {"dq": 0, "dk": 1, "dv": 2, "x": 1}[poisoned]
    place = arguments[poisoned][:, :, part] if poisoned == "x" else arguments[poisoned]
    place[1, 0, 1, 1, 2] = from_bits([pattern])[0]
    found = target.check("heads_backward", arguments | angles(2, 3))["dx"]
    assert to_bits(found[1, 0, part, 1]) == [[0x7FC00000] * 3] * 2
    assert found.isnan().sum() == 6
