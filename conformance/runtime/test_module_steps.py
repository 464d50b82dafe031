"""A module's step is the operations of section 11, called as sections 3, 5, 7 and 9 say.

Other tests compare modules with modules, on one backend or on several, so what all of them do alike would not
show there. Here every argument is written out: streams, steps and numbers of tokens.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from arbitor.components import TernaryModule
from arbitor.conformance.judge.target import REFERENCE, Target
from arbitor.conformance.machine import clipping, models
from arbitor.conformance.machine.models import backward, noise
from arbitor.gradients import sums
from arbitor.gradients.clipping import squared_votes
from arbitor.kernels.registry import Backend, select
from arbitor.reference import limits
from arbitor.reference.limits import How
from arbitor.reference.step import State, linear_step
from arbitor.runtime import configure_ternary_training
from arbitor.schedule import clipped
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
    gain = min(rule.gain * rule.rate // 256, 2**22)
    votes = (rule.rule, gain, rule.vote_max, rule.accum_threshold)
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

    dy, q_x, e_x = (torch.cat(parts[::-1]) for parts in (gradients, quantised, exponents))
    q_g, e_g = judge.quantise_columns(dy, e_x, SEED, DONE, WEIGHT_GRADIENT, 0)
    squared = clipping.squared_votes(layer, q_g, q_x, e_g.tolist(), 0)
    report = update_memory(layer)
    counts = judge.linear_update(
        q_g, e_g, q_x, *state.values(), *how[:4], clipped(how[4], *squared), *how[5:]
    )
    assert list(report.totals().values()) == counts.tolist()
    assert {name: tensor.tolist() for name, tensor in state_of(layer).items()} == {
        name: tensor.tolist() for name, tensor in state.items()
    }
    assert (layer.updates, counts[1] > 0) == (DONE + 1, True)


@pytest.mark.clause("ARB-RNG-005", "ARB-RNG-006", "ARB-LIN-002", "ARB-LIN-005", "ARB-LIN-007", "ARB-RUN-003")
@pytest.mark.parametrize(("most", "features"), [(131_071, 10), (131_071, 40), (11, 10)])
def test_a_step_of_the_reference(
    target: Target, monkeypatch: pytest.MonkeyPatch, most: int, features: int
) -> None:
    """`linear_step`, which composes the operations in NumPy, is a layer's step of the same microbatches; its
    12 tokens are more than one sum takes if that takes 11 (ARB-LIN-007). Of 40 rows the clipping looks at
    some (ARB-CLIP-001)."""
    assert limits.BOUNDS["summed_tokens"] == (1, vars(sums)["MAX_SUMMED_TOKENS"]) == (1, 131_071)
    monkeypatch.setattr(sums, "MAX_SUMMED_TOKENS", most)
    monkeypatch.setattr(sums, "ALIGNMENT", 1)
    monkeypatch.setitem(vars(limits)["BOUNDS"], "summed_tokens", (1, most))
    layer = models.linear(target, rows=features, tensor_id=TENSOR, seed=SEED)
    layer.updates = DONE
    powers = torch.arange(features, device=target.device) * 7 % 9 - 20  # votes beyond what is usual, by row
    layer.moment.copy_(((powers + 512 << 21) + 2**20)[:, None])
    state, how = state_of(layer), How(*how_of(layer))
    xs = [noise(target, rows, 12, seed=rows).requires_grad_() for rows in (3, 4, 5)]
    dys = [noise(target, rows, features, seed=rows + 3) for rows in (3, 4, 5)]
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
    q, e_g = judge.quantise_stochastic(dy.view(1, -1), SEED, DONE, WEIGHT_GRADIENT, 0)
    counts = judge.embedding_update(tokens, q.view_as(dy), e_g, *state.values(), *how)
    assert list(report.totals().values()) == counts.tolist()
    assert {name: tensor.tolist() for name, tensor in state_of(table).items()} == {
        name: tensor.tolist() for name, tensor in state.items()
    }
    assert (table.updates, counts[1] > 0) == (DONE + 1, True)


# ARB-CLIP: a layer's gain where its votes are larger than usual, beside the judge's side in plain integers
ADAPTIVE: dict[str, Any] = {"rule": "adaptive", "gain": 4 << 16, "accum_threshold": 32}
# rows, columns, group size: fewer rows than are looked at, as many, more; short last groups
SHAPES = [(10, 12, 8), (32, 8, 4), (33, 20, 8), (101, 12, 1024)]


def backward_of(layer: Any, target: Target, seed: int, scale: float = 1.0) -> None:
    x, dy = (noise(target, 6, extent, seed=seed) for extent in (layer.in_features, layer.out_features))
    backward(layer(x), gradient=dy * scale)


@pytest.mark.clause("ARB-CLIP-001", "ARB-MOM-003")
@pytest.mark.parametrize("octaves", [0, 3])
@pytest.mark.parametrize(("rows", "columns", "group_size"), SHAPES)
def test_sums_are_those_of_the_judge(
    target: Target, rows: int, columns: int, group_size: int, octaves: int
) -> None:
    """Of two layers at once, with groups of other sizes; ordinary steps, one of silence, and a large one."""
    layers: list[Any] = [
        models.linear(target, columns, rows, group_size=group_size),
        models.linear(target, 16, 40, tensor_id=1),
    ]
    for number, scale in enumerate((1.0, 0.5, 0.0, 2.0**-20, 3.0, 1.0)):
        for layer in layers:
            configure_ternary_training(layer, **ADAPTIVE)
            backward_of(layer, target, number, scale)
        prepared = {layer: layer.prepare() for layer in layers}
        found = squared_votes(prepared, octaves).tolist()
        for layer, (votes, usual) in zip(layers, found, strict=True):
            q_g, q_x = (operand.cpu() for operand in prepared[layer].operands)
            e_g = [max(e - octaves, -100) for e in prepared[layer].e_g.tolist()]
            assert (votes, usual) == clipping.squared_votes(layer, q_g, q_x, e_g, 0)
            counted = clipped(5 << 16, votes, usual), clipping.clipped_gain(5 << 16, votes, usual)
            assert counted[0] == counted[1]
        if number == 4 and not octaves:
            assert all(votes > usual for votes, usual in found)
        for layer in layers:
            update_memory(layer)


@pytest.mark.clause("ARB-CLIP-001", "ARB-MOM-003")
def test_sums_of_old_moments(target: Target) -> None:
    """Of a layer that had more updates than a moment looks back over, beside a new one: squares from far
    above to far below their moments, and a row that never had a gradient."""
    old, new = models.linear(target), models.linear(target, tensor_id=1)
    old.updates = 1000
    powers = torch.tensor([0, *range(-40, 41, 10)], device=target.device)
    assert len(powers) == old.out_features
    old.moment.copy_(((powers + 512 << 21) + 2**20)[:, None])
    old.moment[0] = 0
    prepared = {}
    for layer in (old, new):
        configure_ternary_training(layer, **ADAPTIVE)
        dy = noise(target, 6, layer.out_features)
        dy[:, 0] = 0
        backward(layer(noise(target, 6, layer.in_features, seed=1)), gradient=dy)
        prepared[layer] = layer.prepare()
    found = squared_votes(prepared, 0).tolist()
    for (layer, its), both in zip(prepared.items(), found, strict=True):
        q_g, q_x = (operand.cpu() for operand in its.operands)
        assert tuple(both) == clipping.squared_votes(layer, q_g, q_x, its.e_g.tolist(), 0)
        assert both[1] == 9 * 2 << 16
    assert found[0][0] > 3 * 127 << 16


@pytest.mark.clause("ARB-CLIP-001", "ARB-LIN-007")
def test_sums_of_a_shifted_gradient(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more tokens than one sum takes the gradient is an eighth and its exponent three more."""
    monkeypatch.setattr(sums, "MAX_SUMMED_TOKENS", 5)
    monkeypatch.setattr(sums, "ALIGNMENT", 1)
    layer = models.linear(target)
    backward_of(layer, target, 0)
    prepared = layer.prepare()
    q_g, q_x = (operand.cpu() for operand in prepared.operands)
    e_g = [e + 3 for e in prepared.e_g.tolist()]
    expected = clipping.squared_votes(layer, q_g, q_x, e_g, 3)
    assert [tuple(both) for both in squared_votes({layer: prepared}, 0).tolist()] == [expected]


@pytest.mark.clause("ARB-CLIP-002")
def test_the_largest_integer_whose_square_is_not_more() -> None:
    """Of what is left; nothing is left out where votes are as usual."""
    assert [clipped(100, votes, 4) for votes in (3, 4, 5, 16, 400, 10**9)] == [100, 100, 89, 50, 10, 0]
    for votes in range(1, 60):
        gain = clipped(1000, votes, 7)
        assert gain == 1000 if votes <= 7 else gain**2 * votes <= 7 * 10**6 < (gain + 1) ** 2 * votes


@pytest.mark.clause("ARB-CLIP-001", "ARB-CLIP-002", "ARB-RUN-007")
def test_a_batch_unlike_the_others_is_held_back(target: Target) -> None:
    """After twenty steps, a gradient 64 times as large: the report says the share of the gain that is left.
    Another rule has none, a frozen layer neither."""
    for rule in ("adaptive", "scaled"):
        layer = models.linear(target)
        configure_ternary_training(layer, **(ADAPTIVE | {"rule": rule}))
        for number in range(20):
            backward_of(layer, target, number)
            prepared = {layer: layer.prepare()}
            ((votes, usual),) = squared_votes(prepared, 0).tolist()
            clips = rule == "adaptive" and votes > usual
            assert set(update_memory(layer).shares) == ({""} if clips else set())
        backward_of(layer, target, 20, 64.0)
        if rule == "adaptive":
            ((votes, usual),) = squared_votes({layer: layer.prepare()}, 0).tolist()
            assert update_memory(layer).shares == {"": math.sqrt(usual / votes)}
            assert usual / votes < 1 / 4
            layer.frozen = True
            backward_of(layer, target, 21, 2.0**12)
            assert update_memory(layer).shares == {}
        else:
            assert update_memory(layer).shares == {}


@pytest.mark.clause("ARB-CLIP-002", "ARB-SCHED-003")
def test_the_rate_is_in_the_gain_that_is_clipped(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the operation gets is the square root's floor of gain, rate and share together."""
    layer = models.linear(target, rate=3.0)
    configure_ternary_training(layer, **ADAPTIVE)
    given: list[Any] = []
    honest = target.backend.linear_update
    names = ("e_base", "e_span", "group_size", "rule", "gain")

    def spy(*arguments: Any) -> torch.Tensor:
        given.append(dict(zip(names, arguments[8:], strict=False)))
        counts: torch.Tensor = honest(*arguments)
        return counts

    monkeypatch.setattr(target.backend, "linear_update", spy)
    for number, scale in enumerate((*[1.0] * 9, 100.0)):
        backward_of(layer, target, number, scale)
        ((votes, usual),) = squared_votes({layer: layer.prepare()}, 0).tolist()
        update_memory(layer, gain=7 << 16)
        assert given[-1]["rule"] == "adaptive"
        expected = 21 << 16 if votes <= usual else math.isqrt((21 << 16) ** 2 * usual // votes)
        assert given[-1]["gain"] == expected
    assert given[-1]["gain"] < 21 << 15
