"""The float twins' update by hand: clipping, warm-up and schedule, AdamW and its settings, what is skipped,
and what a state that is loaded leaves.

Gradients are powers of two, and norms such as that of (3, 4), so that the numbers are exact up to where AdamW
divides; from there the same operations are done here one by one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from arbitor.checkpoint import state_hash
from arbitor.conformance.training.trainers import Runs
from arbitor.training import learners, options

CPU = torch.device("cpu")
LR, FULL = 2.0**-4, 40  # a step whose share of it is 1: behind the warm-up, before the schedule falls
TOTAL = 1000


def learner_of(kind: str = "float", **flags: Any) -> Any:
    """A twin of width 4 on the CPU; weights are small, for the arithmetic to be seen."""
    shape = {"d_model": 4, "heads": 1, "layers": 1, "lr": LR, "weight_decay": 0.0}
    return learners.make_learner(options.Options(baseline=kind, runs=Path(), **(shape | flags)), CPU)


def parameters(learner: Any) -> dict[str, torch.nn.Parameter]:
    return dict(learner.model.named_parameters())


def give(learner: Any, gradients: dict[str, list[float]]) -> None:
    """Gradients by parameter, its first elements; of all others they are 0."""
    for name, parameter in parameters(learner).items():
        parameter.grad = torch.zeros_like(parameter)
        first = gradients.get(name, [])
        parameter.grad.view(-1)[: len(first)] = torch.tensor(first)


def update(learner: Any, gradients: dict[str, list[float]], done: int = FULL, loss: float = 1.0) -> Any:
    give(learner, gradients)
    return learner.update(torch.tensor(loss), done, TOTAL)


def moment(learner: Any, name: str, key: str) -> torch.Tensor:
    """A moment, flat, as a checkpoint has it."""
    found: torch.Tensor = learner.state()[f"optimiser.{name}.{key}"]
    return found.flatten()


def float32(value: float) -> float:
    return torch.tensor(value, dtype=torch.float32).item()


@pytest.mark.clause("ARB-TRAIN-003")
@pytest.mark.parametrize("kind", ["float", "ste"])
def test_moments_have_betas_of_0_9_and_0_95(kind: str) -> None:
    """A first gradient of 2^-k leaves the shares of it that are new, exactly; a 0 then leaves 0.95 of one."""
    learner = learner_of(kind)
    given = [2.0**-2, -(2.0**-3), 2.0**-20]
    assert update(learner, {"head.weight": given}).skipped is None
    assert moment(learner, "head.weight", "exp_avg")[:4].tolist() == [
        float32(1 - 0.9) * g for g in [*given, 0.0]
    ]
    squares = [float32(1 - 0.95) * g * g for g in given]
    assert moment(learner, "head.weight", "exp_avg_sq")[:3].tolist() == squares
    update(learner, {})
    assert moment(learner, "head.weight", "exp_avg_sq")[:3].tolist() == [
        (torch.tensor(square) * torch.tensor(0.95)).item() for square in squares
    ]
    assert moment(learner, "head.weight", "step").tolist() == [2.0]


# gradients of two tensors, and the norm of all of it
NORMS: dict[str, tuple[list[float], list[float], float]] = {
    "half": ([0.3, 0.4], [0.0], 0.5),
    "one less a bit": ([1 - 2.0**-10], [0.0], 1 - 2.0**-10),
    "one and a bit": ([1 + 2.0**-10], [0.0], 1 + 2.0**-10),
    "of two tensors, neither above 1": ([0.75], [1.0], 1.25),
    "five": ([3.0], [4.0], 5.0),
    "thirteen": ([3.0, 4.0], [0.0, 12.0], 13.0),
}


@pytest.mark.clause("ARB-TRAIN-003")
@pytest.mark.parametrize("case", NORMS)
def test_the_norm_over_all_tensors_is_clipped_at_1(case: str) -> None:
    first, second, norm = NORMS[case]
    learner = learner_of()
    update(learner, {"head.weight": first, "embedding.weight": second})
    factor = min(1.0, (torch.tensor(1.0) / (torch.tensor(norm) + 1e-6)).item())
    assert (factor == 1) == (norm < 1)
    for name, given in (("head.weight", first), ("embedding.weight", second)):
        clipped = torch.tensor(given) * factor
        assert moment(learner, name, "exp_avg_sq")[: len(given)].tolist() == by_hand(clipped)[2].tolist()


def by_hand(
    gradient: torch.Tensor, rate: float = LR, decay: float = 0.0, weight: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weight, mean and square after a first step of AdamW (Loshchilov & Hutter 2019) from that weight."""
    p = torch.full_like(gradient, weight) * (1 - rate * decay)
    m = torch.zeros_like(gradient).lerp(gradient, 1 - 0.9)
    v = torch.zeros_like(gradient).addcmul(gradient, gradient, value=1 - 0.95)
    root = v.sqrt() / (1 - 0.95) ** 0.5 + 1e-8
    return p.addcdiv(m, root, value=-rate / (1 - 0.9)), m, v


@pytest.mark.clause("ARB-TRAIN-003")
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_a_step_by_hand(decay: float) -> None:
    """Also where a gradient is as small as eps = 1e-8, which shrinks the step; the decay is no gradient."""
    learner = learner_of(weight_decay=decay)
    given = [2.0**-2, -(2.0**-3), 2.0**-26, -(2.0**-27), 2.0**-30, 0.0]
    weights = parameters(learner)["head.weight"]
    weights.data.fill_(0.5)
    update(learner, {"head.weight": given})
    found = weights.detach().flatten()[: len(given)]
    assert torch.equal(found, by_hand(torch.tensor(given), decay=decay, weight=0.5)[0])
    assert found[-1].item() == 0.5 * (1 - LR * decay)


# by cooldown: updates done of 100, and the share of the rate: a warm-up of 40, and the schedule of section 8
# in units of 2^-16, (100 - n) / cooldown and 0.02 at least
SHARES = {
    40: {0: 1 / 40, 9: 10 / 40, 38: 39 / 40, 39: 1.0, 59: 1.0, 60: 1.0, 61: 63_897 / 65_536, 80: 0.5,
         98: 3_276 / 65_536, 99: 1_638 / 65_536},
    80: {0: 1 / 40, 20: 21 / 40, 21: 64_716 / 65_536 * (22 / 40), 38: 50_790 / 65_536 * (39 / 40),
         39: 49_971 / 65_536, 60: 0.5, 80: 0.25, 98: 1_638 / 65_536, 99: 1_310 / 65_536},
}  # fmt: skip
# of 10, in the same way
SHORT = {40: {9: 10 / 40 / 4, 6: 7 / 40}, 80: {9: 10 / 40 / 8, 6: 7 / 40 / 2, 2: 3 / 40}}


@pytest.mark.clause("ARB-SCHED-001", "ARB-TRAIN-003")
@pytest.mark.parametrize(
    ("cooldown", "done", "total", "share"),
    [
        (cooldown, done, total, share)
        for total, by_cooldown in ((100, SHARES), (10, SHORT))
        for cooldown, shares in by_cooldown.items()
        for done, share in shares.items()
    ],
)
@pytest.mark.parametrize("kind", ["float", "ste"])
def test_warm_up_and_schedule(kind: str, cooldown: int, done: int, total: int, share: float) -> None:
    """Read off the decay, which is all that happens to weights of 1 without a gradient, in every tensor."""
    learner = learner_of(kind, lr=1.0, weight_decay=0.125, cooldown=cooldown)
    for parameter in parameters(learner).values():
        parameter.data.fill_(1.0)
    give(learner, {})
    learner.update(torch.tensor(1.0), done, total)
    found = {value for parameter in parameters(learner).values() for value in parameter.unique().tolist()}
    assert found == {float32(1 - share * 0.125)}


@pytest.mark.clause("ARB-TRAIN-003")
def test_what_no_loss_reaches_is_left() -> None:
    """Without a gradient there is no decay and no moment: an expert that no token took."""
    learner = learner_of(weight_decay=0.5)
    give(learner, {"head.weight": [0.5]})
    parameters(learner)["blocks.0.up.weight"].grad = None
    before = parameters(learner)["blocks.0.up.weight"].detach().clone()
    learner.update(torch.tensor(1.0), FULL, TOTAL)
    assert torch.equal(parameters(learner)["blocks.0.up.weight"], before)
    assert not [name for name in learner.state() if name.startswith("optimiser.blocks.0.up")]


@pytest.mark.clause("ARB-RUN-013", "ARB-TRAIN-003")
def test_gradients_of_microbatches_add_up_and_go() -> None:
    learner = learner_of()
    weight = parameters(learner)["head.weight"]
    for part in (1.0, 2.0):
        learner.accumulate((weight.view(-1)[:2] * torch.tensor([0.125, -0.0625]) * part).sum())
    learner.update(torch.tensor(1.0), FULL, TOTAL)
    assert (
        moment(learner, "head.weight", "exp_avg")[:2].tolist()
        == by_hand(torch.tensor([0.375, -0.1875]))[1].tolist()
    )
    assert all(parameter.grad is None for parameter in parameters(learner).values())


def faults() -> Iterator[tuple[str, dict[str, list[float]], float, str]]:
    """A gradient and a loss of which one is not finite, and why such an update is skipped."""
    for value in (math.nan, math.inf, -math.inf):
        yield f"loss {value}", {"head.weight": [0.5]}, value, f"loss is not finite ({value})"
        norm = "nan" if math.isnan(value) else "inf"
        words = f"norm of the gradient is not finite ({norm})"
        yield f"gradient {value}", {"head.weight": [0.5], "embedding.weight": [value]}, 1.0, words
    yield "a norm beyond float32", {"head.weight": [1e30]}, 1.0, "norm of the gradient is not finite (inf)"


@pytest.mark.clause("ARB-RUN-005", "ARB-RUN-006", "ARB-TRAIN-003")
@pytest.mark.parametrize("fault", list(faults()), ids=lambda fault: fault[0])
@pytest.mark.parametrize("kind", ["float", "ste"])
def test_a_step_that_is_skipped_has_not_been(kind: str, fault: tuple[str, Any, float, str]) -> None:
    """Weights, moments and step counts are those from before, and the steps after it as without it."""
    _, gradients, loss, words = fault
    learner, twin = learner_of(kind, weight_decay=0.5), learner_of(kind, weight_decay=0.5)
    for each in (learner, twin):
        update(each, {"head.weight": [0.25], "embedding.weight": [0.125]}, done=0)
    before = state_hash(learner.state())
    assert update(learner, gradients, done=1, loss=loss).skipped == words
    assert state_hash(learner.state()) == before
    assert all(parameter.grad is None for parameter in parameters(learner).values())
    for done in (2, 3):
        for each in (learner, twin):
            assert update(each, {"head.weight": [-0.5, 0.25]}, done=done).skipped is None
        assert state_hash(learner.state()) == state_hash(twin.state())
    assert moment(learner, "head.weight", "step").tolist() == [3.0]


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.parametrize("kind", ["float", "ste"])
def test_a_state_that_is_loaded_is_a_copy(kind: str) -> None:
    """Two learners with one state go on as one, and neither moves what the other has."""
    learner, other = learner_of(kind), learner_of(kind, seed=1)
    update(learner, {"head.weight": [0.25]})
    other.load_state(learner.state())
    held = {name: tensor.clone() for name, tensor in learner.state().items()}
    update(other, {"head.weight": [0.5]})
    assert state_hash(learner.state()) == state_hash(held) != state_hash(other.state())
    update(learner, {"head.weight": [0.5]})
    assert state_hash(learner.state()) == state_hash(other.state())


@pytest.mark.clause("ARB-TRAIN-002")
@pytest.mark.filterwarnings("ignore:.*non-meta parameter")
@pytest.mark.parametrize("fused", [True, False])
def test_a_loaded_step_lies_where_its_optimiser_counts(fused: bool) -> None:
    """Of a fused optimiser, as on CUDA, beside the weights; of another on the CPU."""
    learner = learner_of()
    update(learner, {"head.weight": [0.25]})
    shape = options.Options(baseline="float", runs=Path(), d_model=4, heads=1, layers=1)
    elsewhere: Any = learners.make_learner(shape, torch.device("meta"))
    elsewhere._optimiser.defaults["fused"] = fused
    elsewhere.load_state(learner.state())
    assert moment(elsewhere, "head.weight", "step").device.type == ("meta" if fused else "cpu")
    assert moment(elsewhere, "head.weight", "exp_avg").device.type == "meta"


@pytest.mark.clause("ARB-TRAIN-002")
def test_moments_from_before_a_load_go() -> None:
    """Also those of a tensor that had none where the state is from."""
    fresh, learner = learner_of(), learner_of()
    update(learner, {"head.weight": [0.25]})
    learner.load_state(fresh.state())
    assert state_hash(learner.state()) == state_hash(fresh.state())
    for each in (learner, fresh):
        update(each, {"head.weight": [0.5]})
    assert state_hash(learner.state()) == state_hash(fresh.state())


@pytest.mark.clause("ARB-STATE-006", "ARB-TRAIN-002")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"head.weight": torch.zeros(2, 3)}, r"head\.weight must have shape \(288, 4\), got \(2, 3\)"),
        (
            {"optimiser.head.weight.exp_avg": torch.zeros(3)},
            r"exp_avg must have shape \(288, 4\), got \(3,\)",
        ),
        ({"optimiser.head.weight.step": torch.zeros(3)}, r"step must have shape \(\), got \(3,\)"),
        ({"optimiser.tail.weight.step": torch.zeros(())}, r"unknown \['optimiser\.tail\.weight\.step'\]"),
        ({"tail.weight": torch.zeros(2)}, r"unknown \['tail\.weight'\]"),
        ({"head.weight": None}, r"lacks \['head\.weight'\]"),
    ],
)
def test_a_load_that_is_refused_has_not_been(change: dict[str, torch.Tensor | None], words: str) -> None:
    """Neither the weights before it nor the moments; a legal one then is taken."""
    learner, other = learner_of(), learner_of(seed=1)
    for each in (learner, other):
        update(each, {"head.weight": [0.25]})
    before, legal = state_hash(learner.state()), dict(other.state())
    changed = {name: tensor for name, tensor in (legal | change).items() if tensor is not None}
    with pytest.raises(ValueError, match=words):
        learner.load_state(changed)
    assert state_hash(learner.state()) == before
    learner.load_state(legal)
    assert state_hash(learner.state()) == state_hash(other.state())


@pytest.mark.clause("ARB-SCHED-001", "ARB-RUN-005")
@pytest.mark.parametrize("baseline", [None, "float", "ste"])
def test_a_skipped_step_has_its_place_in_the_schedule(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, baseline: str | None
) -> None:
    """The step after it is the third, for the model and for its twins."""
    from arbitor.training import loop

    honest = loop.Trainer._loss
    seen: list[tuple[int, int, bool]] = []

    def poisoned(trainer: Any, *arguments: Any, **named: Any) -> torch.Tensor:
        loss: torch.Tensor = honest(trainer, *arguments, **named)
        return loss * math.nan if len(seen) == 1 else loss

    for kind in (learners.TernaryLearner, learners.FloatLearner):

        def spy(learner: Any, signal: Any, done: int, total: int, update: Any = kind.update) -> Any:
            found = update(learner, signal, done, total)
            seen.append((done, total, found.skipped is not None))
            return found

        monkeypatch.setattr(kind, "update", spy)
    monkeypatch.setattr(loop.Trainer, "_loss", poisoned)
    flags = ("--no-save", "--steps", "4", "--eval-interval", "0")
    assert runs("pretrain.py", *flags, *(("--baseline", baseline) if baseline else ())) == 0
    assert seen == [(0, 4, False), (1, 4, True), (2, 4, False), (3, 4, False)]
