"""A table and a head that are tied share one ternary tensor."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import arbitor
from arbitor.checkpoint import state_hash
from arbitor.conformance.api.gpt import VOCABULARY, WIDTH, batches
from arbitor.conformance.judge.target import Target
from arbitor.update import ternary_modules


class Tied(nn.Module):
    """The smallest model with a tie, a head's bias if asked for."""

    def __init__(self, bias: bool = False) -> None:
        super().__init__()
        self.table: Any = nn.Embedding(VOCABULARY, WIDTH)
        self.norm, self.middle = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH, bias=False)
        self.head: Any = nn.Linear(WIDTH, VOCABULARY, bias=bias)
        self.head.weight = self.table.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.table(tokens)
        logits: torch.Tensor = self.head(self.norm(x + self.middle(x)))
        return logits


def made(target: Target, bias: bool = False) -> Tied:
    torch.manual_seed(0)
    model = Tied(bias)
    done = arbitor.ternarize(model, group_size=8, backend=target.backend.name, bias="float")
    assert done.swapped == ("table", "middle", "head")
    return model.to(target.device)


def train(model: nn.Module, target: Target, net: Any = None) -> str:
    ternary = arbitor.TernaryOptimizer(model, gain=8.0, accum_threshold=4)
    for batch in batches(target.device, 3):
        logits = (model if net is None else net)(batch[:, :-1])
        F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()).backward()
        assert ternary.step().modules_updated == 2
    return state_hash(model.state_dict())


@pytest.mark.clause("ARB-EMB-006", "ARB-EMB-001")
@pytest.mark.parametrize("bias", [False, True])
def test_one_tensor_under_two_names(target: Target, bias: bool) -> None:
    """In the state once; a copy is tied to itself."""
    model = made(target, bias)
    head = model.head.linear if bias else model.head
    assert [*ternary_modules(model).values()] == [model.middle, head]
    for one in (model, copy.deepcopy(model)):
        head = one.head.linear if bias else one.head
        train(one, target)
        assert torch.equal(one.table.weight, head.weight)
        tokens = torch.arange(VOCABULARY, device=target.device)
        assert torch.equal(one.table(tokens), head.weight)
        assert not any(name.startswith("table") for name in one.state_dict())
    assert (model.table.num_embeddings, model.table.embedding_dim) == (VOCABULARY, WIDTH)


@pytest.mark.clause("ARB-EMB-006", "ARB-RNG-006")
def test_rows_are_tokens_of_the_layer(target: Target) -> None:
    """The same captures, and the same update, as of a layer whose inputs are the rows' gradients and whose
    output gradients are ones at the tokens."""
    layers = [
        arbitor.TernaryLinear(WIDTH, 9, tensor_id=4, group_size=8, backend=target.backend.name)
        for _ in range(2)
    ]
    generator = torch.Generator().manual_seed(2)
    dy, x = (torch.randn(6, WIDTH, generator=generator).to(target.device) for _ in range(2))
    out = torch.randn(6, 9, generator=generator).to(target.device)
    tokens = torch.tensor([3, 0, 3, 8, 1, 3], device=target.device)
    for layer in layers:
        layer.to(target.device)
        layer(x).backward(out)
    layers[0].rows_of(tokens).backward(dy)
    layers[1](dy).backward(F.one_hot(tokens, 9).float())
    for name in ("q_t", "e_x", "dy"):
        one, two = ([getattr(c, name).tolist() for c in layer.captures] for layer in layers)
        assert one == two
    assert [capture.first_row for capture in layers[0].captures] == [0, 6]
    for layer in layers:
        arbitor.TernaryOptimizer(layer, gain=40.0, accum_threshold=1).step()
    assert torch.equal(layers[0].codes, layers[1].codes)


@pytest.mark.clause("ARB-EMB-006")
@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: torch.compile(m, backend="aot_eager")])
def test_it_learns(target: Target, wrap: Callable[[nn.Module], Any]) -> None:
    """The same with torch.compile; what is frozen is so for both."""
    model = made(target)
    for parameter in model.norm.parameters():
        parameter.requires_grad_(False)
    before = state_hash(model.state_dict())
    after = train(model, target, wrap(model))
    assert after != before
    twin = made(target)
    for parameter in twin.norm.parameters():
        parameter.requires_grad_(False)
    assert train(twin, target) == after
    model.head.requires_grad_(False)
    tokens = torch.arange(3, device=target.device)
    assert not model.table(tokens).requires_grad
    torch._dynamo.reset()
