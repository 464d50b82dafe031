"""`ternarize` swaps what it can, keeps what it is told to, and refuses the rest before anything is
changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import arbitor
from arbitor.conformance.api.gpt import GPT, made
from arbitor.conformance.judge.target import Target
from arbitor.update import ternary_modules


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(8, 4), nn.Linear(4, 8, bias=False)
        self.head.weight = self.table.weight


class TiedLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (nn.Linear(4, 4, bias=False) for _ in range(2))
        self.b.weight = self.a.weight


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, bias=False)


class Twice(nn.Module):
    """One layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.second = self.first


class OwnLinear(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input) * 2


def layer(**how: Any) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4, **how))


REFUSED: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], str]] = {
    "half of a tie": (Tied, {"keep": "head"}, "table.weight is also head.weight"),
    "two tied layers": (TiedLayers, {}, "a.weight is also b.weight: only an nn.Embedding and an nn.Linear"),
    "attention": (Attention, {}, "attention.out_proj is .*name it in keep='attention.out_proj'|keep="),
    "the fast path of an encoder": (
        Encoder,
        {"bias": "float", "keep": "layer.self_attn"},
        "layer.linear1 is used by nn.TransformerEncoderLayer without being called, in part",
    ),
    "another word for bias": (layer, {"bias": "flaot"}, "bias must be 'refuse' or 'float', got 'flaot'"),
    "no bias": (layer, {"bias": False}, "bias must be 'refuse' or 'float', got False"),
    "biases": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)),
        {},
        "0, 1 have biases, which a ternary layer has not; pass bias='float'",
    ),
    "bias": (layer, {}, "0 has a bias, which a ternary layer has not; pass bias='float'"),
    "padding": (lambda: nn.Sequential(nn.Embedding(4, 4, padding_idx=0)), {}, "0 has a padding_idx"),
    "norm": (lambda: nn.Sequential(nn.Embedding(4, 4, max_norm=1.0)), {}, "0 has a max_norm"),
    "subclass": (lambda: nn.Sequential(OwnLinear(4, 4, bias=False)), {}, "0 is a OwnLinear"),
    "itself": (lambda: nn.Linear(4, 4, bias=False), {}, "the model itself is a layer"),
    "nothing": (lambda: nn.Sequential(nn.ReLU()), {}, "no nn.Linear or nn.Embedding to swap"),
    "all kept": (lambda: layer(bias=False), {"keep": "0"}, "no nn.Linear or nn.Embedding to swap"),
    "no such name": (lambda: layer(bias=False), {"keep": "head"}, "keep names head, which no module"),
    "group size": (lambda: layer(bias=False), {"group_size": 3}, "group_size"),
}


@pytest.mark.clause("ARB-STATE-005")
@pytest.mark.parametrize("case", REFUSED)
def test_refused(target: Target, case: str) -> None:
    make, how, words = REFUSED[case]
    model = make()
    before = dict(model.named_modules())
    with pytest.raises(ValueError, match=words):
        arbitor.ternarize(model, backend=target.backend.name, **how)
    assert dict(model.named_modules()) == before


def test_a_module_is_no_name(target: Target) -> None:
    model = layer(bias=False)
    with pytest.raises(TypeError, match="keep takes names"):
        arbitor.ternarize(model, keep=model, backend=target.backend.name)
    assert arbitor.ternarize(model, keep=None, backend=target.backend.name).swapped == ("0",)


@pytest.mark.clause("ARB-INIT-001")
def test_trits_are_those_of_torchs_seed(target: Target) -> None:
    """As float weights would be; or of a seed that is given."""

    def codes(torchs: int, **how: Any) -> list[Any]:
        torch.manual_seed(torchs)
        model = nn.Sequential(nn.Linear(16, 16, bias=False))
        arbitor.ternarize(model, backend=target.backend.name, **how)
        found: list[Any] = model[0].codes.tolist()  # type: ignore[operator]
        return found

    assert codes(1) == codes(1) != codes(2)
    assert codes(1, seed=5) == codes(2, seed=5)


@pytest.mark.clause("ARB-STATE-002")
def test_a_weight_is_to_look_at(target: Target) -> None:
    """A backward through it, and putting another in its place, are refused; frozen it is a plain tensor."""
    linear = arbitor.TernaryLinear(4, 4, backend=target.backend.name, device=target.device)
    x = torch.ones(2, 4, device=target.device)
    with pytest.raises(RuntimeError, match=r"backward through the weight of TernaryLinear.*tie a head as"):
        (x @ linear.weight.T).sum().backward()
    for value in (linear.weight, nn.Parameter(x), None):
        with pytest.raises(AttributeError, match=r"TernaryLinear.weight is computed from integers"):
            linear.weight = value  # type: ignore[misc,assignment]
    linear.requires_grad_(False)
    assert not linear.weight.requires_grad


@pytest.mark.clause("ARB-RNG-002", "ARB-INIT-001")
def test_names_ids_and_bits(target: Target) -> None:
    """In the order of the modules; a model that is built the same way has the same trits."""
    models = [made(target.device, target.backend.name) for _ in range(2)]
    found = ternary_modules(models[0])
    assert [module.tensor_id for module in found.values()] == [*range(9)]
    assert [*found][:3] == ["table", "blocks.0.qkv", "blocks.0.out"]
    again = ternary_modules(models[1])
    assert all(torch.equal(module.codes, again[name].codes) for name, module in found.items())
    assert isinstance(models[0].head, nn.Linear)


def test_what_it_says(target: Target) -> None:
    torch.manual_seed(0)
    done = arbitor.ternarize(
        GPT(), keep=("head", lambda name, _: name.endswith("up")), backend=target.backend.name
    )
    below = [f"blocks.{block}.{name}" for block in range(2) for name in ("qkv", "out", "down")]
    assert done.swapped == ("table", *below)
    assert [*done.kept] == ["blocks.0.up", "blocks.1.up", "head"]
    assert str(done).startswith("7 modules are ternary: table, blocks.0.qkv, ")


def test_what_lies_below_a_kept_module_is_kept(target: Target) -> None:
    done = arbitor.ternarize(GPT(), keep=["head", "blocks.0"], backend=target.backend.name)
    assert {name.partition(".")[0] for name in done.swapped} == {"table", "blocks"}
    assert not any(name.startswith("blocks.0") for name in done.swapped)


def test_a_layer_under_two_names(target: Target) -> None:
    """Is one ternary layer under both."""
    model = Twice()
    assert arbitor.ternarize(model, backend=target.backend.name).swapped == ("first",)
    assert model.first is model.second
    assert isinstance(model.first, arbitor.TernaryLinear)


def test_a_second_call_goes_on_with_the_ids(target: Target) -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    arbitor.ternarize(model, keep="1", backend=target.backend.name)
    arbitor.ternarize(model, backend=target.backend.name)
    assert [module.tensor_id for module in ternary_modules(model).values()] == [0, 1]


@pytest.mark.clause("ARB-LIN-001")
def test_a_bias_stays_a_float(target: Target) -> None:
    model = layer().to(target.device)
    with torch.no_grad():
        model[0].bias.copy_(torch.arange(4.0))  # type: ignore[index]
    arbitor.ternarize(model, bias="float", backend=target.backend.name)
    biased = model[0]  # type: ignore[index]
    assert isinstance(biased, arbitor.FloatBias)
    x = torch.ones(2, 4, device=target.device)
    assert torch.equal(model(x), biased.linear(x) + torch.arange(4.0, device=target.device))
    assert [name for name, found in model.named_parameters() if found.numel()] == ["0.bias"]
    assert (biased.in_features, biased.out_features, biased.weight.shape) == (4, 4, (4, 4))


@pytest.mark.clause("ARB-STATE-002")
def test_weights_are_computed(target: Target) -> None:
    """As the product has them, and read-only."""
    linear = arbitor.TernaryLinear(20, 6, group_size=8, backend=target.backend.name, device=target.device)
    linear.e += torch.arange(3, device=target.device).to(torch.int8).remainder(2)
    weight = linear.weight
    y = linear(torch.eye(20, device=target.device) * 64)
    assert torch.equal(y.t() / 64, weight)
    assert (linear.in_features, linear.out_features, linear.bias) == (20, 6, None)
    table = arbitor.TernaryEmbeddingTable(7, 12, backend=target.backend.name, device=target.device)
    assert torch.equal(table(torch.arange(7, device=target.device)), table.weight)
    assert (table.num_embeddings, table.embedding_dim) == (7, 12)
    weight.zero_()
    assert linear.weight.any()


def test_parameters_are_counted(target: Target) -> None:
    model = made(target.device, target.backend.name)
    counts = arbitor.parameter_count(model)
    assert counts == {
        "trits": 32 * 16 + 2 * (48 * 16 + 16 * 16 + 2 * 32 * 16),
        "floats": sum(parameter.numel() for parameter in model.parameters()),
    }


@pytest.mark.clause("ARB-STATE-006")
def test_loading_is_all_or_nothing(target: Target) -> None:
    """A wrong last tensor, ternary or float: nothing before it has changed."""
    model = made(target.device, target.backend.name)
    good = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    bad: dict[str, torch.Tensor] = {
        "blocks.1.down.e": good["blocks.1.down.e"] + 100,
        "blocks.1.down.codes": good["blocks.1.down.codes"][:-1],
        "head.weight": good["head.weight"][:-1],
    }
    for name, tensor in bad.items():
        others = {key: torch.zeros_like(value) for key, value in good.items() if value.is_floating_point()}
        with pytest.raises((ValueError, RuntimeError), match=name.rpartition(".")[0]):
            model.load_state_dict(good | others | {name: tensor})
        assert all(torch.equal(value, good[key]) for key, value in model.state_dict().items())
    model.load_state_dict(good)
