"""`quantise_nearest_both`: one quantisation in the two layouts that the products read."""

import pytest
import torch

from arbitor.conformance.judge.target import Target, call
from arbitor.conformance.operations.common import agreement, float32, layouts, refusals, repetition

test_agrees, test_ends = agreement("quantise_nearest_both", "ARB-QUANT-011")
test_refuses = refusals("quantise_nearest_both")
test_layouts = layouts("quantise_nearest_both")
test_repeats = repetition("quantise_nearest_both")


@pytest.mark.clause("ARB-QUANT-007", "ARB-QUANT-008", "ARB-QUANT-011")
@pytest.mark.parametrize("shape", [(1, 1), (1, 33), (33, 1), (17, 130), (130, 17), (64, 64), (129, 1030)])
def test_it_is_quantise_nearest_and_its_transpose(target: Target, shape: tuple[int, int]) -> None:
    """Row by row with another exponent each, a poisoned row among them."""
    rows, columns = shape
    x = torch.randn(shape, generator=torch.Generator().manual_seed(rows)) * 2.0 ** torch.arange(rows)[:, None]
    x[rows // 2, columns // 2] = float("inf") if rows > 1 else 3.0
    both = target.check("quantise_nearest_both", {"x": x})
    alone = call(target.backend, "quantise_nearest", target.placed({"x": x}), target.device)
    assert torch.equal(both["q"], alone["q"].cpu())
    assert torch.equal(both["exponents"], alone["exponents"].cpu())
    assert torch.equal(both["q_t"], both["q"].t())


@pytest.mark.clause("ARB-QUANT-011")
def test_layouts_by_hand(target: Target) -> None:
    found = target.check("quantise_nearest_both", {"x": float32([[127, 1, -2], [0, 64, -0.5]])})
    assert found["q"].tolist() == [[127, 1, -2], [0, 64, 0]]
    assert found["q_t"].tolist() == [[127, 0], [1, 64], [-2, 0]]
    assert found["exponents"].tolist() == [0, 0]
