"""Experts: a token takes its top k, repeats until the router halts, and nobody else's tokens matter."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from arbitor.components import TernaryLinear
from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine import models
from arbitor.conformance.machine.models import backward, hash_of
from arbitor.main import ARBModel
from arbitor.moe import ExpertUse, MixtureOfExperts, summary
from arbitor.update import ternary_modules

LENGTH = 13
EXPERTS: dict[str, Any] = {"experts": 3, "top_k": 2, "layers": 2}


def of_kind(model: ARBModel) -> list[Any]:
    """The mixtures of a model; Any, because torch types their parts as Module or Tensor."""
    return [module for module in model.modules() if isinstance(module, MixtureOfExperts)]


def by_hand(moe: Any, x: torch.Tensor) -> torch.Tensor:
    """ARB-MOE-001 and -002 for one token x [d], with no tensor of other tokens anywhere."""
    keep = torch.ones(1, device=x.device)
    for number in range(moe.max_iters):
        h = moe.work.norm(x[None])
        logits = moe.router(h)
        if number:
            keep = keep * moe.work.sigmoid(-logits[:, -1:])[0]
            if float(keep) < 1 / 16:
                break
        p = moe.work.softmax(logits[:, :-1])[0]
        order = sorted(range(len(p)), key=lambda expert, p=p: (-float(p[expert]), expert))[: moe.top_k]  # type: ignore[misc]
        weights = p[torch.tensor(order, device=x.device)]
        total = weights[0]
        for weight in weights[1:]:
            total = total + weight
        weights = weights / total if moe.top_k > 1 else weights
        change = torch.zeros_like(x)
        for weight, expert in zip(weights, order, strict=True):
            change = change + weight * moe.experts[expert](h)[0]
        x = x + keep * change
    return x


@pytest.mark.clause("ARB-MOE-001", "ARB-MOE-002")
@pytest.mark.parametrize("iterations", [1, 2, 6])
@pytest.mark.parametrize(("experts", "top_k"), [(1, 1), (3, 1), (3, 2), (4, 4)])
def test_tokens_are_treated_as_by_hand(target: Target, experts: int, top_k: int, iterations: int) -> None:
    """Each token alone, and its bits are the same among others."""
    model = models.model_of(target, experts=experts, top_k=top_k, max_moe_iters=iterations)
    (moe,) = of_kind(model)
    x = models.noise(target, 11, 16)
    with torch.no_grad():
        together = moe(x)
        assert torch.equal(torch.stack([by_hand(moe, row) for row in x]), together)
        assert torch.equal(moe(x.view(1, 11, 16)), together.view(1, 11, 16))


@pytest.mark.clause("ARB-MOE-001")
def test_ties_go_to_the_lower_number(target: Target) -> None:
    """A router of zeros: every token takes the first two."""
    model = models.model_of(target, experts=4, top_k=2)
    (moe,) = of_kind(model)
    moe.router.codes.fill_(0x55)
    with torch.no_grad():
        moe(models.noise(target, 6, 16))
    assert moe.take_use() == ExpertUse((6, 6, 0, 0), 1.0)
    assert moe.take_use() is None


def halting(router: TernaryLinear, code: int) -> None:
    """Every trit of the halting output gets that code."""
    router.codes[-1] = code * 0x55


@pytest.mark.clause("ARB-MOE-002")
def test_the_router_halts(target: Target) -> None:
    """A halting output that is 0 halves what is left: the fifth pass has a sixteenth, and is the last."""
    model = models.model_of(target, experts=2, max_moe_iters=8)
    (moe,) = of_kind(model)
    moe.router.codes.fill_(0x55)
    x = models.noise(target, 7, 16)
    with torch.no_grad():
        moe(x)
        assert moe.take_use().iterations == 5.0
        halting(moe.router, 2)  # +1: the sum of a token's inputs, of either sign
        moe(x)
        passes = moe.take_use().iterations
        assert 1.0 < passes < 8.0
        moe.max_iters = 1
        moe(x)
        assert moe.take_use().iterations == 1.0


@pytest.mark.clause("ARB-MOE-003")
def test_one_pass_is_a_plain_pass(target: Target) -> None:
    """With one iteration the halting output is never seen; and it gets no gradient."""
    model = models.model_of(target, **EXPERTS)
    tokens = models.bytes_of(target, 2, LENGTH)
    with torch.no_grad():
        before = model(tokens)
        for moe in of_kind(model):
            halting(moe.router, 2)
        assert torch.equal(model(tokens), before)


@pytest.mark.clause("ARB-MOE-003")
def test_one_expert_is_the_plain_model(target: Target) -> None:
    """Given the trits of a model without experts, forward, losses and updates of what they share agree."""
    plain, one = models.model_of(target, layers=2), models.model_of(target, layers=2, experts=1, top_k=1)
    names = {name: name.replace("moe.experts.0.", "") for name in ternary_modules(one)}
    others = ternary_modules(plain)
    for name, module in ternary_modules(one).items():
        if names[name] in others:
            other = others[names[name]]
            module.codes.copy_(other.codes)
            module.tensor_id = other.tensor_id
        else:
            module.tensor_id += 1000  # the number of another one by now
    for step in range(3):
        tokens = models.bytes_of(target, 2, 9, seed=step, high=7)
        for model in (plain, one):
            backward(models.loss_of(model, tokens))
        assert plain._ternary_update_memory().totals()["flips"] > 0
        one._ternary_update_memory()
        shared = {name: module for name, module in ternary_modules(one).items() if names[name] in others}
        assert len(shared) == len(others)
        for name, module in shared.items():
            assert hash_of(module) == hash_of(others[names[name]])


@pytest.mark.clause("ARB-MODEL-002", "ARB-MOE-002")
@pytest.mark.parametrize("iterations", [1, 6])
def test_streaming_with_experts(target: Target, iterations: int) -> None:
    model = models.model_of(target, **EXPERTS, max_moe_iters=iterations, window=4)
    tokens = models.bytes_of(target, 2, LENGTH)
    with torch.no_grad():
        whole = model(tokens)
        streamed = [model(part, stateful=True) for part in tokens.split(1, dim=1)]
    assert torch.equal(torch.cat(streamed, dim=1), whole)


@pytest.mark.clause("ARB-MOE-001", "ARB-RUN-003", "ARB-RUN-012")
def test_experts_are_updated_by_their_tokens(target: Target) -> None:
    """One that no token takes has no capture and stays as it is; one in several passes has a capture each,
    and so has the router: the loss reaches its halting output in every pass but the first."""
    model = models.model_of(target, experts=3, top_k=1, max_moe_iters=8)
    (moe,) = of_kind(model)
    moe.router.codes.fill_(0x55)
    backward(models.loss_of(model, models.bytes_of(target, 2, 9)))
    captures = [len(expert.up.captures) for expert in moe.experts]
    assert captures == [5, 0, 0]
    assert len(moe.router.captures) == 5
    model._ternary_update_memory()
    assert moe.router.t_accum[-1].any()
    assert [expert.up.updates for expert in moe.experts] == [1, 0, 0]


@pytest.mark.clause("ARB-MOE-004", "ARB-MODEL-003")
def test_the_balance(target: Target) -> None:
    """1 when choices and probabilities are even, E when all go to one; taken once; in no checkpoint."""
    model = models.model_of(target, experts=4, top_k=1)
    (moe,) = of_kind(model)
    names = list(model.state_dict())
    assert model.auxiliary_loss() is None
    p = torch.eye(4, device=target.device).repeat(2, 1).requires_grad_()
    moe._count(p, p.argmax(-1, keepdim=True))
    even = moe.take_balance()
    assert even is not None
    assert even.item() == 1.0
    moe._count(p[:1].expand(8, 4), torch.zeros(8, 1, dtype=torch.int64, device=target.device))
    one = moe.take_balance()
    assert one is not None
    assert one.item() == 4.0
    assert moe.take_balance() is None
    pairs = torch.tensor([[0, 1], [2, 3]], device=target.device)  # two choices a token, even as well
    moe._count(torch.full((2, 4), 0.25, device=target.device).requires_grad_(), pairs)
    moe._count(p[:2], pairs[:, :1] * 0)  # another pass: one expert has all choices and half of p
    passes = moe.take_balance()
    assert passes is not None
    assert passes.item() == (1.0 + 2.0) / 2
    assert list(model.state_dict()) == names
    loss = models.loss_of(model, models.bytes_of(target, 2, 9))
    balance = model.auxiliary_loss()
    assert balance is not None
    backward(loss + balance)
    assert len(moe.router.captures) == 1
    model.reset_runtime_state()
    assert model.auxiliary_loss() is None
    assert model.take_expert_use() == []


@pytest.mark.clause("ARB-MOE-004")
def test_use_by_hand() -> None:
    """Shares, and their entropy beside that of equal ones; over blocks, the worst of each."""
    even, one = ExpertUse((5, 5, 5, 5), 1.5), ExpertUse((0, 8, 0, 0), 1.0)
    assert (even.shares, one.shares) == ([0.25] * 4, [0.0, 1.0, 0.0, 0.0])
    assert (even.evenness, one.evenness) == (1.0, 0.0)
    assert ExpertUse((3, 3, 0, 0), 1.0).evenness == 0.5
    assert ExpertUse((7,), 1.0).evenness == 1.0
    assert summary([even, one]) == {"iterations": 1.25, "busiest expert": 1.0, "evenness": 0.0}
    assert summary([]) == {}


@pytest.mark.clause("ARB-MOE-002", "ARB-MOE-004", "ARB-MODEL-003")
def test_use_is_counted_by_block(target: Target) -> None:
    """Each pass of a token is `top_k` choices; taken once, cleared by a reset, in no state of the model."""
    model = models.model_of(target, **EXPERTS, max_moe_iters=3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tokens = models.bytes_of(target, 2, LENGTH)
    with torch.no_grad():
        model(tokens)
        used = model.take_expert_use()
        assert len(used) == 2
        for use in used:
            assert sum(use.choices) == 2 * round(use.iterations * tokens.numel())
            assert 1.0 <= use.iterations <= 3.0
        assert model.take_expert_use() == []
        model(tokens)
        model(tokens)
        assert [use.choices for use in model.take_expert_use()] == [
            tuple(2 * count for count in use.choices) for use in used
        ]
        model(tokens)
    model.reset_runtime_state()
    assert model.take_expert_use() == []
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(p.numel() for p in model.parameters())


@pytest.mark.clause("ARB-TRAIN-001", "ARB-MOE-001")
def test_trajectories_with_experts(target: Target) -> None:
    mine = models.trajectory(target, target.backend.name, 6, **EXPERTS, max_moe_iters=2)
    for rival in models.rivals(target):
        assert models.trajectory(target, rival, 6, **EXPERTS, max_moe_iters=2) == mine
