"""TernaryOptimizer: settings, schedule, state, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import arbitor
from arbitor.conformance.api.gpt import batches, loss_of, made
from arbitor.conformance.judge.target import Target
from arbitor.runtime import configure_ternary_training
from arbitor.schedule import scheduled_gain, scheduled_scale_gain
from arbitor.update import ternary_modules


def step(
    ternary: arbitor.TernaryOptimizer, batch: torch.Tensor, signal: float | None = None
) -> arbitor.UpdateReport:
    loss_of(ternary.model, batch).backward()
    return ternary.step(signal)


@pytest.mark.clause("ARB-SCHED-001", "ARB-SCHED-002", "ARB-SCHED-003", "ARB-RUN-010")
@pytest.mark.parametrize("cooldown", [(), (40,)])
def test_settings_and_schedule(
    target: Target, monkeypatch: pytest.MonkeyPatch, cooldown: tuple[int, ...]
) -> None:
    """With the cooldown that nobody chose, and with another; a layer's rate is its own."""
    model = made(target.device, target.backend.name)
    rates = [module.settings.rate for module in ternary_modules(model).values()]
    how: dict[str, Any] = {"cooldown": cooldown[0]} if cooldown else {}
    ternary = arbitor.TernaryOptimizer(
        model, gain=2.5, accum_threshold=5, e_accum_threshold=7, total_steps=10, **how
    )
    assert len(set(rates)) > 1
    assert [module.settings.rate for module in ternary_modules(model).values()] == rates
    for module in ternary_modules(model).values():
        assert (module.settings.gain, module.settings.accum_threshold) == (5 << 15, 5)
        assert (module.settings.e_accum_threshold, module.settings.scale_gain) == (7, 1 << 11)
    asked: list[tuple[Any, Any]] = []
    up = model.blocks[0].up
    honest = up.apply_update

    def spy(prepared: Any, *gains: Any) -> Any:
        asked.append(gains[:2])
        return honest(prepared, *gains)

    monkeypatch.setattr(up, "apply_update", spy)
    for batch in batches(target.device, 10):
        assert step(ternary, batch).modules_updated == 9
    gains = [scheduled_gain(5 << 15, n, 10, *cooldown) for n in range(10)]
    assert asked == [(gain, scheduled_scale_gain(1 << 11, n, 10)) for n, gain in enumerate(gains)]
    assert step(ternary, batch).modules_updated == 9
    assert asked[10] == asked[9], "behind the end it stays"


@pytest.mark.clause("ARB-RUN-005", "ARB-RUN-006")
def test_a_skip_counts_as_a_step(target: Target) -> None:
    ternary = arbitor.TernaryOptimizer(made(target.device, target.backend.name), total_steps=2)
    (batch,) = batches(target.device, 1)
    assert step(ternary, batch, float("nan")).skipped is not None
    assert ternary.steps == 1
    with pytest.raises(RuntimeError, match="nothing to update from"):
        ternary.step()
    assert ternary.steps == 1


@pytest.mark.clause("ARB-SCHED-001")
def test_state(target: Target) -> None:
    """Settings and the place in the schedule travel; a run goes on as if it had not been stopped."""
    ends = []
    for stop in (False, True):
        model = made(target.device, target.backend.name)
        ternary = arbitor.TernaryOptimizer(model, gain=4.0, accum_threshold=4, total_steps=6, cooldown=50)
        for number, batch in enumerate(batches(target.device, 6)):
            if stop and number == 3:
                weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
                state = ternary.state_dict()
                model = made(target.device, target.backend.name)
                model.load_state_dict(weights)
                ternary = arbitor.TernaryOptimizer(model)
                ternary.load_state_dict(state)
            step(ternary, batch)
        ends.append([tensor.tolist() for tensor in model.state_dict().values()])
    assert ends[0] == ends[1]


@pytest.mark.clause("ARB-RUN-016", "ARB-RUN-009")
@pytest.mark.parametrize("saved", [True, False])
def test_settings_travel(target: Target, saved: bool, tmp_path: Path) -> None:
    """With the model's own state, through a file too; an optimiser keeps its own."""
    how = target.device, target.backend.name
    model = made(*how)
    configure_ternary_training(model, 7, 9, gain=5 << 16, rule="sign")
    state: Any = model.state_dict()
    if saved:
        torch.save(state, tmp_path / "state.pt")
        state = torch.load(tmp_path / "state.pt", weights_only=True)
    other = made(*how)
    ternary = arbitor.TernaryOptimizer(other, gain=2.0)
    other.load_state_dict(state)
    both = (ternary_modules(each).values() for each in (model, other))
    mine, its = ([module.settings for module in modules] for modules in both)
    assert mine == its
    assert other.blocks[0].up.settings.accum_threshold == 7
    step(ternary, next(batches(target.device, 1)))
    assert other.blocks[0].up.settings == ternary.settings
    other.load_state_dict(dict(state))  # as a copy by hand has none
    assert other.blocks[0].up.settings == ternary.settings
    state._metadata["blocks.1.down"]["settings"]["accum_threshold"] = 0
    before = [tensor.clone() for tensor in other.state_dict().values()]
    with pytest.raises(ValueError, match="accum_threshold"):
        other.load_state_dict(state)
    assert all(map(torch.equal, other.state_dict().values(), before))


GOOD = {"version": 2, "steps": 2, "total_steps": 6, "cooldown": 80}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 1}, "its version is 1, that of its specification, expected 2"),
        ({"steps": -1}, "step -1 of total_steps 6"),
        ({"steps": 1.0}, "step 1.0 of total_steps 6"),
        ({"total_steps": 0}, "step 2 of total_steps 0"),
        ({"cooldown": 101}, "cooldown must be"),
        ({"settings": {}}, "settings are \\[\\], expected"),
        ({"more": 1}, "no state of a TernaryOptimizer"),
    ],
)
def test_a_state_that_is_none(target: Target, change: dict[str, Any], words: str) -> None:
    ternary = arbitor.TernaryOptimizer(made(target.device, target.backend.name))
    before = ternary.state_dict()
    with pytest.raises(ValueError, match=words):
        ternary.load_state_dict(GOOD | {"settings": before["settings"]} | change)
    assert ternary.state_dict() == before


@pytest.mark.clause("ARB-SCHED-001", "ARB-RUN-009")
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"gain": -1}, r"gain must be a number in 0\.\.64, got -1"),
        ({"gain": 64.1}, "gain must be"),
        ({"gain": "3"}, "gain must be"),
        ({"scale_gain": True}, "scale_gain must be"),
        ({"gain": 1e-6}, "gain is in steps of 1/65536, so 1e-06 would be 0"),
        ({"scale_gain": 17}, r"scale_gain must be a number in 0\.\.16, got 17"),
        ({"cooldown": 0}, r"cooldown must be an integer in 1\.\.100, got 0"),
        ({"cooldown": 50.0}, "cooldown must be"),
        ({"accum_threshold": 0}, "accum_threshold"),
        ({"total_steps": 0}, "total_steps must be an integer of at least 1, or None, got 0"),
        ({"total_steps": 1.5}, "total_steps must be"),
        ({"rule": "adam"}, "rule must be one of"),
    ],
)
def test_wrong_settings(target: Target, how: dict[str, Any], words: str) -> None:
    model = made(target.device, target.backend.name)
    before = [module.settings for module in ternary_modules(model).values()]
    with pytest.raises(ValueError, match=words):
        arbitor.TernaryOptimizer(model, **how)
    assert [module.settings for module in ternary_modules(model).values()] == before


@pytest.mark.clause("ARB-RUN-009")
def test_settings_change_in_mid_run(target: Target) -> None:
    """By `configure`, in the constructor's units; rates stay, and what is refused has changed nothing."""
    model = made(target.device, target.backend.name)
    ternary = arbitor.TernaryOptimizer(model, total_steps=4)
    rates = [module.settings.rate for module in ternary_modules(model).values()]
    ternary.configure(gain=2.5, rule="scaled", accum_threshold=7)
    step(ternary, next(batches(target.device, 1)))
    found = [module.settings for module in ternary_modules(model).values()]
    assert {(s.gain, s.rule, s.accum_threshold, s.scale_gain) for s in found} == {
        (5 << 15, "scaled", 7, 1 << 11)
    }
    assert [s.rate for s in found] == rates
    for error, how in ((ValueError, {"gain": 65}), (TypeError, {"rate": 3}), (TypeError, {"momentum": 1})):
        with pytest.raises(error, match=next(iter(how))):
            ternary.configure(**how)
    assert [module.settings for module in ternary_modules(model).values()] == found
    for name in ("gain", "rule", "accum_threshold"):
        with pytest.raises(AttributeError, match=rf"set {name} with configure\({name}="):
            setattr(ternary, name, 1)
    for name, value in (("total_steps", 0), ("total_steps", 2.5), ("cooldown", 0), ("cooldown", 1000)):
        with pytest.raises(ValueError, match=f"{name} must be an integer"):
            setattr(ternary, name, value)
    assert (ternary.total_steps, ternary.cooldown) == (4, 80)
    ternary.total_steps = None


@pytest.mark.parametrize("state", [None, {}, {"settings": None}, [1]])
def test_what_is_no_state(target: Target, state: Any) -> None:
    ternary = arbitor.TernaryOptimizer(made(target.device, target.backend.name))
    with pytest.raises(ValueError, match="this is no state of a TernaryOptimizer"):
        ternary.load_state_dict(state)


@pytest.mark.clause("ARB-STATE-006", "ARB-RUN-016")
def test_a_state_of_specification_1(target: Target) -> None:
    """Or one that lacks any ternary tensor: refused before anything is changed, in words that say why."""
    model = made(target.device, target.backend.name)
    arbitor.TernaryOptimizer(model)
    before = [tensor.clone() for tensor in model.state_dict().values()]
    old: Any = made(target.device, target.backend.name, seed=1).state_dict()
    settings = old._metadata["blocks.0.up"]["settings"]
    lacking = {name: dict(old) for name in ("moment", "codes")}
    for name, state in lacking.items():
        del state[f"blocks.0.up.{name}"]
    with pytest.raises(
        RuntimeError, match=r"lacks moment of blocks\.0\.up, as of specification 1.*nothing was"
    ):
        model.load_state_dict(lacking["moment"])
    with pytest.raises(RuntimeError, match=r"lacks codes of blocks\.0\.up: nothing was loaded"):
        model.load_state_dict(lacking["codes"])
    del settings["rate"]
    with pytest.raises(ValueError, match=r"settings of blocks\.0\.up are of specification 1"):
        model.load_state_dict(old)
    assert all(map(torch.equal, model.state_dict().values(), before))


def test_what_is_no_model(target: Target) -> None:
    with pytest.raises(TypeError, match=r"takes the model: .* got a generator"):
        arbitor.TernaryOptimizer(nn.Linear(2, 2).parameters())  # type: ignore[arg-type]


@pytest.mark.clause("ARB-RNG-002")
def test_two_models_of_one_numbering(target: Target) -> None:
    """Are refused when their optimiser is made; first_id= keeps them apart."""
    first, second = (made(target.device, target.backend.name) for _ in range(2))
    with pytest.raises(ValueError, match=r"both have tensor_id 0 .*first_id= where it is called"):
        arbitor.TernaryOptimizer(nn.ModuleList([first, second]))


@pytest.mark.clause("ARB-RUN-014")
def test_all_are_frozen(target: Target) -> None:
    """A step of what learns nothing is none."""
    model = made(target.device, target.backend.name)
    for module in ternary_modules(model).values():
        module.requires_grad_(False)
    ternary = arbitor.TernaryOptimizer(model)
    assert step(ternary, next(batches(target.device, 1))).modules_updated == 0
    assert ternary.steps == 1


def test_a_model_without_ternary_modules() -> None:
    with pytest.raises(ValueError, match=r"call arbitor.ternarize\(model\) first"):
        arbitor.TernaryOptimizer(nn.Sequential(nn.Linear(2, 2)))


@pytest.mark.clause("ARB-RANK-001")
def test_several_processes_have_to_join(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """An update of one among several that have not joined would be that of its own tokens."""
    model = made(target.device, target.backend.name)
    ternary = arbitor.TernaryOptimizer(model)
    with pytest.raises(ValueError, match="there is no process group to join"):
        arbitor.join_ranks(model)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    loss_of(model, next(batches(target.device, 1))).backward()
    with pytest.raises(ValueError, match=r"one of 2 processes.*call arbitor.join_ranks\(model\)"):
        ternary.step()
