"""The layers of the float twins on numbers whose arithmetic is exact: claims beside BitNet lean on them.

Scales are powers of two, and the rest small integers times such, so nothing is rounded but what the rule
rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from arbitor.conformance.judge.settings import SETTINGS
from arbitor.conformance.machine.models import backward
from arbitor.main import ARBConfig, ARBModel
from arbitor.training import baselines


def layer_of(kind: str, weights: list[list[float]]) -> torch.nn.Linear:
    """A layer of that kind with those weights [O, I]."""
    layer = baselines.BaselineParts(kind, 0).linear(len(weights[0]), len(weights))
    assert isinstance(layer, torch.nn.Linear)
    layer.weight.data = torch.tensor(weights)
    return layer


# mean |W| is 1/2 over all of it; by rows it would be 3/4 and 1/4
WEIGHTS = [[2.0, -0.75, 0.25, 0.0], [0.25, -0.25, -0.375, 0.125]]
# W / scale is [4, -1.5, 0.5, 0], [0.5, -0.5, -0.75, 0.25]: clipped at 1, halves to even
TERNARY = [[0.5, -0.5, 0.0, 0.0], [0.0, 0.0, -0.5, 0.0]]
# largest |x| of a token 127 / 4, 127 * 2, 0: scales 1/4, 2, and the least there is
TOKENS = [[31.75, 0.125, -0.375, 0.625], [-254.0, 1.0, 3.0, -5.0], [0.0, 0.0, 0.0, 0.0]]
# 127, 0.5, -1.5, 2.5 and -127, 0.5, 1.5, -2.5 quarters and twos: halves to even
INT8 = [[31.75, 0.0, -0.5, 0.5], [-254.0, 0.0, 4.0, -4.0], [0.0, 0.0, 0.0, 0.0]]


@pytest.mark.clause("ARB-TRAIN-003")
def test_weights_have_one_scale_a_tensor() -> None:
    assert baselines._ternary(torch.tensor(WEIGHTS)).tolist() == TERNARY
    assert torch.tensor(WEIGHTS).abs().mean().item() == 0.5


@pytest.mark.clause("ARB-TRAIN-003")
@pytest.mark.parametrize("shape", [(3, 4), (1, 3, 4), (3, 1, 4)])
def test_activations_have_one_scale_a_token(shape: tuple[int, ...]) -> None:
    """Neither one a batch nor one a sequence, however the tokens lie."""
    found = baselines._int8(torch.tensor(TOKENS).view(shape))
    assert found.tolist() == torch.tensor(INT8).view(shape).tolist()


@pytest.mark.clause("ARB-TRAIN-003")
def test_a_scale_is_never_0() -> None:
    """1e-5 at least: a layer or a token of zeros gives zeros, and what is far below it is 0 too."""
    tiny = torch.full((2, 4), 2.0**-40)
    for function in (baselines._ternary, baselines._int8):
        assert function(torch.zeros(2, 4)).tolist() == [[0.0] * 4] * 2
        assert function(tiny).tolist() == [[0.0] * 4] * 2
    # 2^-17 is below 1e-5, and more than half of it
    assert baselines._ternary(torch.full((2, 4), 2.0**-17)).unique().item() == torch.tensor(1e-5).item()
    scale = torch.tensor(1e-5) / 127
    assert baselines._int8(torch.full((1, 4), 2.0**-17)).unique().item() == (97 * scale).item()


def products(kind: str) -> tuple[list[list[float]], list[list[float]]]:
    """The operands that a layer of that kind multiplies."""
    return (INT8, TERNARY) if kind == "ste" else (TOKENS, WEIGHTS)


@pytest.mark.clause("ARB-TRAIN-003")
@pytest.mark.parametrize("kind", ["ste", "float"])
def test_forward_and_gradients_by_hand(kind: str) -> None:
    """The gradient passes both roundings as it is, also where a weight was clipped: that of W is of the
    quantised x, that of x of the quantised W."""
    layer, x = layer_of(kind, WEIGHTS), torch.tensor(TOKENS, requires_grad=True)
    dy = [[1.0, -2.0], [0.5, 4.0], [-1.0, 8.0]]
    y = layer(x)
    backward(y, gradient=torch.tensor(dy))
    a, w = products(kind)
    assert y.tolist() == [[sum(p * q for p, q in zip(row, out, strict=True)) for out in w] for row in a]
    assert x.grad is not None
    assert layer.weight.grad is not None
    assert x.grad.tolist() == [[sum(d[o] * w[o][i] for o in range(2)) for i in range(4)] for d in dy]
    expected = [[sum(dy[t][o] * a[t][i] for t in range(3)) for i in range(4)] for o in range(2)]
    assert layer.weight.grad.tolist() == expected
    assert layer.weight.tolist() == WEIGHTS


@pytest.mark.clause("ARB-TRAIN-003")
@pytest.mark.parametrize("kind", ["ste", "float"])
def test_a_table_is_float32(kind: str) -> None:
    """In both kinds, and a row gets the sum of its tokens' gradients."""
    table: Any = baselines.BaselineParts(kind, 0).embedding(5, 3)
    y = table(torch.tensor([1, 4, 1]))
    assert torch.equal(y, table.weight[[1, 4, 1]])
    backward(y, gradient=torch.tensor([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]))
    assert table.weight.grad.tolist() == [[0, 0, 0], [8, 10, 12], [0, 0, 0], [0, 0, 0], [4, 5, 6]]


def weights_of(kind: str, seed: int, before: Callable[[], Any] = lambda: None) -> dict[str, torch.Tensor]:
    """Weights of a small twin, what is drawn `before` included."""
    parts = baselines.BaselineParts(kind, seed)
    before()
    return dict(ARBModel(ARBConfig(16, 1, 2), parts=parts).state_dict())


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.clause("ARB-TRAIN-001", "ARB-TRAIN-003")
def test_weights_are_a_function_of_the_seed() -> None:
    """Whatever else is drawn in the process, which is left as it was; both kinds have the same ones."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    twin = weights_of("float", 7)
    assert torch.equal(torch.rand(3), expected)
    assert same(twin, weights_of("ste", 7))
    assert same(twin, weights_of("float", 7, lambda: torch.rand(3)))
    assert same(twin, weights_of("float", 7, lambda: weights_of("ste", 1)))
    assert not same(twin, weights_of("float", 8))
    assert {tensor.dtype for tensor in twin.values()} == {torch.float32}


@pytest.mark.clause("ARB-TRAIN-001", "ARB-TRAIN-003")
@pytest.mark.parametrize("setting", SETTINGS)
def test_weights_made_under_a_setting(setting: str) -> None:
    """Are the same ones, on the CPU, and can be trained."""
    with SETTINGS[setting]("cpu"):
        twin = ARBModel(ARBConfig(16, 1, 2), parts=baselines.BaselineParts("ste", 7))
    assert same(dict(twin.state_dict()), weights_of("ste", 7))
    backward(twin(torch.tensor([[1, 2, 3]])).sum())
    assert all(parameter.grad is not None for parameter in twin.parameters())


@pytest.mark.clause("ARB-TRAIN-001", "ARB-TRAIN-003")
def test_weights_are_drawn_one_after_another() -> None:
    """As torch draws them after manual_seed: recorded losses are of these."""
    parts = baselines.BaselineParts("float", 7)
    found: list[Any] = [parts.linear(4, 8), parts.embedding(3, 4), parts.linear(4, 8)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        expected: list[Any] = [
            baselines.FloatLinear(4, 8),
            torch.nn.Embedding(3, 4),
            baselines.FloatLinear(4, 8),
        ]
    assert all(torch.equal(mine.weight, its.weight) for mine, its in zip(found, expected, strict=True))
    assert not torch.equal(found[0].weight, found[2].weight)


@pytest.mark.clause("ARB-TRAIN-003")
def test_every_projection_of_a_twin_is_of_its_kind() -> None:
    model = ARBModel(ARBConfig(16, 1, 2), parts=baselines.BaselineParts("ste", 0))
    kinds = {name: type(module) for name, module in model.named_modules() if hasattr(module, "weight")}
    assert kinds.pop("embedding") is torch.nn.Embedding
    assert set(kinds) == {
        *(f"blocks.0.{name}" for name in ("attention.qkv", "attention.out", "up", "down")),
        "head",
    }
    assert set(kinds.values()) == {baselines.SteLinear}


@pytest.mark.clause("ARB-TRAIN-003")
def test_projections_begin_with_variance_1_of_in_features() -> None:
    """Normal: of 2^16 weights 0.6827 are within one deviation, give or take five deviations of that share."""
    weight: Any = baselines.BaselineParts("float", 0).linear(256, 256).weight
    within = int((weight.abs() < 256**-0.5).sum())
    share, count = 0.682689492, 2**16
    assert abs(within - share * count) < 5 * (share * (1 - share) * count) ** 0.5


def test_an_unknown_kind() -> None:
    with pytest.raises(ValueError, match="unknown baseline 'bf16'; known: ste, float"):
        baselines.BaselineParts("bf16", 0)
