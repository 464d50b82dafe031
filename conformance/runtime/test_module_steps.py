"""A module's step is the operations of section 11, called as sections 3, 5, 7 and 9 say.

Other tests compare modules with modules, on one backend or on several, so what all of them do alike would not
show there. Here every argument is written out: streams, steps and numbers of tokens.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from arbitor.components import TernaryModule
from arbitor.conformance.judge.target import REFERENCE, Target
from arbitor.conformance.machine import models
from arbitor.conformance.machine.models import backward, noise
from arbitor.gradients import sums
from arbitor.kernels.registry import Backend, select
from arbitor.reference import limits
from arbitor.reference.limits import How
from arbitor.reference.step import State, linear_step
from arbitor.update import update_memory

SEED, TENSOR, DONE = 2**33 + 9, 3, 5
INPUT_GRADIENT, WEIGHT_GRADIENT = 16 * TENSOR + 1, 16 * TENSOR + 2  # streams


@pytest.fixture
def judge() -> Backend:
    return select(REFERENCE)


def how_of(module: TernaryModule) -> tuple[Any, ...]:
    """The arguments of an update after the state."""
    shape, rule = module.shape, module.settings
    band = (shape.e_base, shape.e_span, shape.group_size)
    votes = (rule.rule, rule.gain, rule.vote_max, rule.accum_threshold)
    return (*band, *votes, rule.scale_gain, rule.e_accum_threshold, SEED, TENSOR, DONE)


def state_of(module: TernaryModule) -> dict[str, torch.Tensor]:
    """A copy of the state tensors, in the order of the update's arguments."""
    return {name: tensor.cpu().clone() for name, tensor in module.state().items()}


@pytest.mark.clause("ARB-RNG-005", "ARB-RNG-006", "ARB-LIN-002", "ARB-LIN-005", "ARB-RUN-003")
def test_a_layer(target: Target, judge: Backend) -> None:
    """Two calls, whose backwards come last call first; one before them has none."""
    layer = models.linear(target, tensor_id=TENSOR, seed=SEED)
    layer.updates = DONE
    state, how = state_of(layer), how_of(layer)
    weight = (state["codes"], state["e"], *how[:3])
    firsts, inputs, gradients, outputs, quantised, exponents = [], [], [], [], [], []
    for number, (first, rows) in enumerate(((0, 3), (5, 4), (0, 5))):
        x = noise(target, rows, 12, seed=number).requires_grad_()
        y = layer(x)
        q_x, e_x = judge.quantise_nearest(x.detach().cpu())
        assert torch.equal(y.detach().cpu(), judge.linear_forward(q_x, e_x, *weight))
        if number:
            dy = noise(target, rows, 10, seed=number + 3)
            firsts.append(first)
            inputs.append(x)
            gradients.append(dy.cpu())
            outputs.append((y * dy).sum())
            quantised.append(q_x)
            exponents.append(e_x)
    backward(outputs[1] + outputs[0])
    for first, x, dy in zip(firsts, inputs, gradients, strict=True):
        q_d, e_d = judge.quantise_stochastic(dy, SEED, DONE, INPUT_GRADIENT, first)
        assert x.grad is not None
        assert torch.equal(x.grad.cpu(), judge.input_gradient(q_d, e_d, *weight, 12))

    report = update_memory(layer)
    dy, q_x, e_x = (torch.cat(parts[::-1]) for parts in (gradients, quantised, exponents))
    q_g, _ = judge.quantise_columns(dy, e_x, SEED, DONE, WEIGHT_GRADIENT, 0)
    counts = judge.linear_update(q_g, q_x, *state.values(), *how)
    assert list(report.totals().values()) == counts.tolist()
    assert {name: tensor.tolist() for name, tensor in state_of(layer).items()} == {
        name: tensor.tolist() for name, tensor in state.items()
    }
    assert (layer.updates, counts[1] > 0) == (DONE + 1, True)


@pytest.mark.clause("ARB-RNG-005", "ARB-RNG-006", "ARB-LIN-002", "ARB-LIN-005", "ARB-LIN-007", "ARB-RUN-003")
@pytest.mark.parametrize("most", [131_071, 11])
def test_a_step_of_the_reference(target: Target, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """`linear_step`, which composes the operations in NumPy, is a layer's step of the same microbatches; its
    12 tokens are more than one sum takes if that takes 11 (ARB-LIN-007)."""
    assert limits.BOUNDS["summed_tokens"] == (1, vars(sums)["MAX_SUMMED_TOKENS"]) == (1, 131_071)
    monkeypatch.setattr(sums, "MAX_SUMMED_TOKENS", most)
    monkeypatch.setattr(sums, "ALIGNMENT", 1)
    monkeypatch.setitem(vars(limits)["BOUNDS"], "summed_tokens", (1, most))
    layer = models.linear(target, tensor_id=TENSOR, seed=SEED)
    layer.updates = DONE
    state, how = state_of(layer), How(*how_of(layer))
    xs = [noise(target, rows, 12, seed=rows).requires_grad_() for rows in (3, 4, 5)]
    dys = [noise(target, rows, 10, seed=rows + 3) for rows in (3, 4, 5)]
    outputs = [layer(x) for x in xs]
    for y, dy in zip(outputs, dys, strict=True):
        backward((y * dy).sum())
    report = update_memory(layer)

    arrays = State(**{name: tensor.numpy() for name, tensor in state.items()})
    y, dx, counts = linear_step(
        [x.detach().cpu().numpy() for x in xs], [dy.cpu().numpy() for dy in dys], arrays, how
    )
    assert [part.tolist() for part in y] == [part.detach().cpu().tolist() for part in outputs]
    assert [part.tolist() for part in dx] == [x.grad.cpu().tolist() for x in xs if x.grad is not None]
    assert counts is not None
    assert list(report.totals().values()) == counts.tolist()
    assert {name: tensor.tolist() for name, tensor in state_of(layer).items()} == {
        name: array.tolist() for name, array in vars(arrays).items()
    }


@pytest.mark.clause("ARB-RNG-006")
def test_numbers_are_those_of_captured_tokens(target: Target) -> None:
    """From 0, in the order of the backwards; a forward takes none."""
    layer = models.linear(target)
    first, second = layer(noise(target, 4, 12)), layer(noise(target, 3, 12))
    assert layer.next_number(1) == 0
    backward(second.square().sum())
    assert layer.next_number(1) == 3
    backward(first.square().sum())
    assert [capture.first_row for capture in layer.captures] == [0, 3]
    assert layer.next_number(1) == 7
    layer.clear_captures()
    assert layer.next_number(1) == 0


@pytest.mark.clause("ARB-RNG-005", "ARB-RNG-006", "ARB-EMB-002", "ARB-EMB-003", "ARB-EMB-004")
def test_a_table(target: Target, judge: Backend) -> None:
    """Gradients of rows that differ by powers of two: one exponent for all of them."""
    table = models.table(target, tensor_id=TENSOR, seed=SEED)
    table.updates = DONE
    state, how = state_of(table), how_of(table)
    calls = [(models.bytes_of(target, n, seed=n, high=7), noise(target, n, 12, seed=n)) for n in (4, 3, 5)]
    scales = torch.tensor([[2.0**-row] for row in range(5)], device=target.device)
    calls = [(tokens, dy * scales[: len(dy)]) for tokens, dy in calls]
    outputs = [(table(tokens) * dy).sum() for tokens, dy in calls]
    backward(outputs[2] + outputs[0])

    report = update_memory(table)
    tokens, dy = (torch.cat([calls[call][place] for call in (2, 0)]).cpu() for place in (0, 1))
    q, _ = judge.quantise_stochastic(dy.view(1, -1), SEED, DONE, WEIGHT_GRADIENT, 0)
    counts = judge.embedding_update(tokens, q.view_as(dy), *state.values(), *how)
    assert list(report.totals().values()) == counts.tolist()
    assert {name: tensor.tolist() for name, tensor in state_of(table).items()} == {
        name: tensor.tolist() for name, tensor in state.items()
    }
    assert (table.updates, counts[1] > 0) == (DONE + 1, True)
