"""What ARBModel does between its layers, beside NumPy's scalars of float32: one operation at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from arbitor.between.exact import ExactWork
from arbitor.between.sequences import angles_at
from arbitor.between.work import Work
from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine import models
from arbitor.conformance.machine.models import noise

Floats = list[np.float32]


def work_of(target: Target) -> Work:
    return ExactWork(target.backend.name)


def leaf(target: Target, *extents: int, seed: int = 0) -> torch.Tensor:
    return noise(target, *extents, seed=seed).requires_grad_()


def gradients(y: torch.Tensor, dy: torch.Tensor, *of: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(y, of, dy))


def rows(x: torch.Tensor) -> list[Floats]:
    """float32 [R, C] as NumPy's scalars, which round each operation by itself."""
    return [list(row) for row in x.detach().cpu().numpy()]


def in_order(values: Floats) -> np.float32:
    total = values[0]
    for value in values[1:]:
        total = np.float32(total + value)
    return total


def same(found: torch.Tensor, expected: Any) -> bool:
    """Bit for bit."""
    right = torch.from_numpy(np.array(expected, dtype=np.float32)).view(found.shape)
    return torch.equal(found.detach().cpu().view(torch.int32), right.view(torch.int32))


@pytest.mark.clause("ARB-MIX-001")
@pytest.mark.parametrize("slots", [2, 3, 7])
def test_shares_by_hand(target: Target, slots: int) -> None:
    w = torch.rand(5, slots, generator=torch.Generator().manual_seed(slots)).to(target.device)
    w.requires_grad_()
    dy = noise(target, 5, slots)
    y = work_of(target).shares(w)
    (dw,) = gradients(y, dy, w)
    expected, of_w = [], []
    for row, change in zip(rows(w), rows(dy), strict=True):
        total = in_order(row)
        shares = [value / total for value in row]
        t = in_order([d * share for d, share in zip(change, shares, strict=True)])
        expected.append(shares)
        of_w.append([(d - t) / total for d in change])
    assert same(y, expected)
    assert same(dw, of_w)


@pytest.mark.clause("ARB-MIX-002")
@pytest.mark.parametrize("slots", [1, 2, 5])
def test_a_row_in_every_slot(target: Target, slots: int) -> None:
    """Its gradient is theirs, one after another."""
    h, dy = leaf(target, 4, 6), noise(target, 4, slots, 6, seed=1)
    y = work_of(target).spread(h, slots)
    (dh,) = gradients(y, dy, h)
    assert all(torch.equal(y[:, slot], h) for slot in range(slots))
    assert same(dh, [[in_order(list(column)) for column in part.T] for part in dy.cpu().numpy()])


@pytest.mark.clause("ARB-MIX-003")
@pytest.mark.parametrize("slots", [1, 2, 5])
def test_a_weighted_sum_by_hand(target: Target, slots: int) -> None:
    w, v = leaf(target, 4, slots), leaf(target, 4, slots, 6, seed=1)
    dy = noise(target, 4, 6, seed=2)
    y = work_of(target).weighted(w, v)
    dw, dv = gradients(y, dy, w, v)
    weights, values = rows(w), v.detach().cpu().numpy()
    assert same(
        y,
        [
            [in_order([weights[r][i] * values[r, i, c] for i in range(slots)]) for c in range(6)]
            for r in range(4)
        ],
    )
    assert torch.equal(dv, w[..., None] * dy[:, None])
    for slot in range(slots):
        assert torch.equal(dw[:, slot], target.backend.dot(dy, v.detach()[:, slot].contiguous()))


@pytest.mark.clause("ARB-SOFT-004")
def test_the_gradient_of_a_sigmoid_by_hand(target: Target) -> None:
    x, dy = leaf(target, 9, 1), noise(target, 9, 1, seed=1)
    y = work_of(target).sigmoid(x)
    (dx,) = gradients(y, dy, x)
    one = np.float32(1)
    assert same(dx, [d[0] * (s[0] * (one - s[0])) for d, s in zip(rows(dy), rows(y), strict=True)])


@pytest.mark.clause("ARB-LOSS-004")
def test_the_loss_of_a_batch(target: Target) -> None:
    """The sum of integers in nats; a poisoned row makes it NaN."""
    x, targets = leaf(target, 2, 3, 7), torch.tensor([[0, 6, 3], [1, 1, 5]], device=target.device)
    loss = work_of(target).cross_entropy(x, targets)
    (dx,) = gradients(loss, torch.tensor(0.3, device=target.device), x)
    flat = x.detach().view(6, 7)
    losses, change = target.backend.cross_entropy(flat, targets.view(6))
    assert same(loss, float(int(losses.sum())) * (math.log(2) * 2.0**-20))
    assert torch.equal(dx.view(6, 7), change * torch.tensor(0.3, device=target.device))
    spoiled = flat.clone()
    spoiled[4, 2] = math.nan
    assert math.isnan(work_of(target).cross_entropy(spoiled, targets.view(6)).item())


@pytest.mark.clause("ARB-LOSS-005")
def test_the_squared_error_of_a_batch(target: Target) -> None:
    x, y = leaf(target, 2, 3, 5), noise(target, 2, 3, 5, seed=1)
    loss = work_of(target).squared_error(x, y)
    (dx,) = gradients(loss, torch.tensor(0.3, device=target.device), x)
    flat = (x.detach().view(6, 5), y.view(6, 5))
    assert same(loss, float(int(target.backend.squared_error(*flat).sum())) * 2.0**-20)
    factor, two = np.float32(0.3), np.float32(2)
    pairs = zip(x.detach().flatten().tolist(), y.flatten().tolist(), strict=True)
    assert same(dx, [(np.float32(a) - np.float32(b)) * two * factor for a, b in pairs])
    spoiled = flat[0].clone()
    spoiled[5, 4] = math.inf
    assert math.isnan(work_of(target).squared_error(spoiled, flat[1]).item())


@pytest.mark.clause("ARB-MODEL-008", "ARB-HEAD-001", "ARB-ATT-001")
@pytest.mark.parametrize("window", [None, 0, 3])
def test_attention_of_a_past(target: Target, window: int | None) -> None:
    """Positions in two calls see what they see in one, and the gradient of the later call is its own."""
    work, qkv = work_of(target), noise(target, 2, 7, 3 * 16)
    whole, (k, v) = work.attend(qkv, 2, window, 0, None)
    first, past = work.attend(qkv[:, :4], 2, window, 0, None)
    last = qkv[:, 4:].clone().requires_grad_()
    second, seen = work.attend(last, 2, window, 4, past)
    assert all(map(torch.equal, seen, (k, v)))
    if window != 0:
        assert torch.equal(torch.cat([first, second], dim=1), whole)
    assert torch.equal(second, whole[:, 4:])
    (dx,) = gradients(second, noise(target, 2, 3, 16, seed=1), last)
    assert dx.shape == last.shape
    cos, sin = angles_at(4, 3, 8, torch.device(target.device))
    q, _, _ = target.backend.heads(last.detach().view(2, 3, 3, 2, 2, 4), cos, sin)
    far = 2**31 - 1 if window is None else window
    y, top, total = target.backend.attention(q.flatten(-2), k, v, far)
    dy = noise(target, 2, 3, 16, seed=1).view(y.shape)
    found = target.backend.attention_backward(dy, y, top, total, q.flatten(-2), k, v, far)
    parts = [part[:, -3:].unflatten(-1, (2, 4)).contiguous() for part in found]
    right = target.backend.heads_backward(*parts, last.detach().view(2, 3, 3, 2, 2, 4), cos, sin)
    assert torch.equal(dx, right.flatten(2))


@pytest.mark.clause("ARB-MODEL-008")
def test_a_model_by_hand(target: Target) -> None:
    """Its blocks in their order, with what they are made of called one by one."""
    model = models.model_of(target, layers=2)
    tokens = models.bytes_of(target, 2, 5)

    def norm(x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = target.backend.norm(x.reshape(-1, x.shape[-1]).contiguous())
        return found.view(x.shape)

    with torch.no_grad():
        x = norm(model.embedding(tokens))
        for block in model.blocks:
            part: Any = block
            qkv = part.attention.qkv(norm(x)).view(2, 5, 3, 2, 2, 4)
            q, k, v = target.backend.heads(qkv, *angles_at(0, 5, 8, x.device))
            y, *_ = target.backend.attention(q.flatten(-2), k.flatten(-2), v.flatten(-2), 2**31 - 1)
            x = x + part.attention.out(norm(y.flatten(-2)))
            up = part.up(norm(x)).clamp(min=0.0)
            x = x + part.down(norm(up * up))
        assert torch.equal(model(tokens), model.head(norm(x)))


@pytest.mark.clause("ARB-MODEL-008")
def test_what_flows_back_is_of_the_same_operations(target: Target) -> None:
    """A gradient through one block, whose last projection captures what came to it."""
    model = models.model_of(target)
    logits = model(models.bytes_of(target, 1, 4))
    dy = noise(target, *logits.shape)
    models.backward(logits, gradient=dy)
    block: Any = model.blocks[0]
    with torch.no_grad():
        x = work_of(target).norm(model.embedding(models.bytes_of(target, 1, 4)))
        x = (x + block.attention(work_of(target).norm(x), 0, False))[0]
        x = x + block.down(work_of(target).norm(block.up(work_of(target).norm(x)).relu().square()))
    head: Any = model.head
    q, e = target.backend.quantise_stochastic(dy[0], head.seed, 0, head.stream(1), 0)
    shape = head.shape
    dx = target.backend.input_gradient(
        q, e, head.codes, head.e, shape.e_base, shape.e_span, shape.group_size, shape.columns
    )
    assert torch.equal(block.down.captures[0].dy, target.backend.norm_backward(dx, x))


@pytest.mark.clause("ARB-MOE-004")
def test_the_balance_by_hand(target: Target) -> None:
    """Units of 2^-20 of each p are summed as integers; a row that is poisoned makes it NaN."""
    p = torch.rand(50, 3, generator=torch.Generator().manual_seed(1)).to(target.device).requires_grad_()
    usage = torch.tensor([60, 0, 40], device=target.device)
    loss = work_of(target).balance(p, usage)
    (dp,) = gradients(loss, torch.tensor(0.3, device=target.device), p)
    units = [sum(int(value * 2**20) for value in column) for column in p.detach().cpu().T.tolist()]
    assert same(loss, 3 * (60 * units[0] + 40 * units[2]) / (100 * 50) * 2.0**-20)
    factors = [np.float32(3 * count / (100 * 50)) * np.float32(0.3) for count in (60, 0, 40)]
    assert same(dp, [factors] * 50)
    assert math.isnan(work_of(target).balance(p.detach() * math.inf, usage).item())
