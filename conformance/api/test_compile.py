"""torch.compile gives the bits of the run without it; what torch cannot do with a captured gradient is
refused in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import arbitor
from arbitor.checkpoint import state_hash
from arbitor.conformance.api.gpt import CONTEXT, VOCABULARY, WIDTH, batches, loss_of, made, train
from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine.models import backward, bytes_of, hash_of, model_of
from arbitor.conformance.machine.models import loss_of as loss_of_bytes

# torch 2.11 hides a warning of its own as it prints it
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")

COMPILED: dict[str, dict[str, Any]] = {
    "aot": {"backend": "aot_eager"},
    "aot, whole": {"backend": "aot_eager", "fullgraph": True},
    "inductor, whole": {"fullgraph": True},
}
Wrap = Callable[[nn.Module], Any]


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def trained(target: Target, wrap: Wrap, **how: Any) -> str:
    """The state after three steps in which float parameters stay: a compiler gives them other bits."""
    model = made(target.device, target.backend.name, **how)
    return train(model, net=wrap(model), lr=0.0)


def need_compiler(target: Target, how: str) -> None:
    if how.startswith("inductor") and (target.backend.name, target.device) != ("torch", "cpu"):
        pytest.skip("inductor knows nothing of the backend: once, in the lane of torch on the CPU")


@pytest.mark.clause("ARB-RUN-015", "ARB-RNG-006")
@pytest.mark.parametrize("how", COMPILED)
def test_a_compiled_model_learns_the_same(target: Target, how: str) -> None:
    need_compiler(target, how)
    before = state_hash(made(target.device, target.backend.name).state_dict())
    plain = trained(target, lambda m: m)
    compiled = trained(target, lambda m: torch.compile(m, **COMPILED[how]))
    assert before not in (plain, compiled)
    if how.startswith("aot"):  # the same float work; inductor has sums of its own
        assert compiled == plain


@pytest.mark.clause("ARB-RUN-015", "ARB-FLOAT-001")
@pytest.mark.parametrize("how", ["aot", "inductor"])
def test_arbmodel_is_left_as_it_is(target: Target, how: str) -> None:
    """Experts, a residual stream, the loss: nothing is fused, and the state has the bits of a plain run."""
    need_compiler(target, how)
    ends = []
    for compiled in (False, True):
        model = model_of(target, experts=2, max_moe_iters=2)
        net: Any = (
            torch.compile(model, backend="aot_eager" if how == "aot" else "inductor") if compiled else model
        )
        for step in range(2):
            backward(loss_of_bytes(net, bytes_of(target, 2, 9, seed=step, high=4)))
            assert model._ternary_update_memory().totals()["flips"] > 0
        ends.append(hash_of(model))
    assert ends[0] == ends[1]


@pytest.mark.clause("ARB-RUN-015", "ARB-RUN-003", "ARB-RNG-006")
@pytest.mark.parametrize("times", [1, 2])
def test_compiled_and_checkpointed(target: Target, times: int) -> None:
    """Each block is run again in the backward."""
    plain = trained(target, lambda m: m, times=times)
    compiled = trained(
        target, lambda m: torch.compile(m, backend="aot_eager", fullgraph=True), times=times, mode=False
    )
    assert compiled == plain


class Shared(nn.Module):
    """One table and one layer, called four times, twice with the same tokens; no gradient is needed below."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        how = {"backend": target.backend.name, "group_size": 8}
        self.table = arbitor.TernaryEmbeddingTable(8, 8, tensor_id=0, **how)
        self.layer = arbitor.TernaryLinear(8, 8, tensor_id=1, **how)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        a, b, c = (self.layer(self.table(t)) for t in (tokens, tokens, tokens.flip(0)))
        looked: torch.Tensor = (a * b).square().sum() + (b * c).sum() + self.table(tokens).square().sum()
        return looked


@pytest.mark.clause("ARB-RUN-015", "ARB-RUN-003", "ARB-RNG-006")
@pytest.mark.parametrize("how", COMPILED)
def test_calls_that_are_alike_stay_apart(
    target: Target, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler may join equal calls, and leave out what nobody looks at; a capture is neither."""
    need_compiler(target, how)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # kept is what was compiled for other code
    ends = []
    for wrap in (lambda m: m, lambda m: torch.compile(m, **COMPILED[how])):
        model = Shared(target).to(target.device)
        ternary = arbitor.TernaryOptimizer(model, gain=8.0, accum_threshold=2)
        net: Any = wrap(model)
        for _ in range(3):
            net(torch.arange(6, device=target.device)).backward()
            assert (len(model.layer.captures), len(model.table.captures)) == (3, 4)
            ternary.step()
        ends.append(state_hash(model.state_dict()))
    if how.startswith("aot"):
        assert ends[0] == ends[1]


@pytest.mark.clause("ARB-RUN-004")
def test_a_compiled_backward_comes_once(target: Target) -> None:
    """And not after an update."""
    model = made(target.device, target.backend.name)
    net: Any = torch.compile(model, backend="aot_eager")
    ternary = arbitor.TernaryOptimizer(model)
    (batch,) = batches(target.device, 1)
    loss = loss_of(net, batch)
    old = loss_of(net, batch)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match=r"second backward through the same forward of blocks\.1\.down"):
        loss.backward()
    ternary.step()
    with pytest.raises(RuntimeError, match="was updated between this forward and its backward"):
        old.backward()


@pytest.mark.clause("ARB-RUN-015", "ARB-RUN-014")
def test_compiled_without_gradients(target: Target) -> None:
    """The bits of the model as it is, also after an update; a frozen one captures nothing."""
    model = made(target.device, target.backend.name)
    net: Any = torch.compile(model, backend="aot_eager")
    ternary = arbitor.TernaryOptimizer(model, gain=8.0, accum_threshold=4)
    for batch in batches(target.device, 2):
        with torch.no_grad():
            assert torch.equal(net(batch), model(batch))
        loss_of(net, batch).backward()
        ternary.step()
    model.blocks.requires_grad_(False)
    loss_of(net, batch).backward()
    assert [bool(module.captures) for module in (model.table, model.blocks[0].up)] == [True, False]


UNDER = "TernaryLinear cannot be called under torch.func"
TRANSFORMS: dict[str, tuple[Callable[[nn.Module, torch.Tensor], object], str]] = {
    "grad": (
        lambda m, x: torch.func.grad(lambda x: m(x).sum())(x),
        UNDER,
    ),
    "vmap": (lambda m, x: torch.func.vmap(m)(x), UNDER),
    "jacrev": (lambda m, x: torch.func.jacrev(m)(x), UNDER),
    "export": (lambda m, x: torch.export.export(m, (x,)), "TernaryLinear cannot be exported"),
}


@pytest.mark.clause("ARB-RUN-004")
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_what_is_refused(target: Target, transform: str) -> None:
    layer = arbitor.TernaryLinear(WIDTH, VOCABULARY, backend=target.backend.name, device=target.device)
    call, words = TRANSFORMS[transform]
    with pytest.raises(Exception, match=words):
        call(nn.Sequential(layer), torch.ones(CONTEXT, 3, WIDTH, device=target.device))
    assert layer.captures == []
