"""The report of an update says what really changed (ARB-RUN-007): states before and after are compared."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from arbitor.components import TernaryModule
from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine import models
from arbitor.conformance.machine.models import backward, changed, loss_of, noise, snapshot, trits_of
from arbitor.runtime import configure_ternary_training
from arbitor.update import ternary_modules, update_memory

# nothing fires in one step
HIGH = {
    "rule": "scaled",
    "gain": 1 << 16,
    "accum_threshold": 32,
    "e_accum_threshold": 127,
    "scale_gain": 1 << 16,
}
LOW = HIGH | {"rule": "sign", "accum_threshold": 1, "e_accum_threshold": 1}  # every vote fires
EVENTS = ("votes", "fires", "flips", "scale_votes", "exponents_moved")


def differences(before: torch.Tensor, after: torch.Tensor) -> int:
    return int((before != after).sum())


def moved(module: TernaryModule, kind: str) -> torch.Tensor:
    """A copy of the array of that kind; scale accumulators have two names."""
    if kind == "trits":
        return trits_of(module)
    state = module.state()
    return (state[kind] if kind in state else state["corr_accum"]).clone()


def one_update(target: Target, kind: str, settings: dict[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    """The report's counts of one update from a fresh state, and how many elements of each array it
    changed."""
    module = models.linear(target) if kind == "linear" else models.table(target)
    configure_ternary_training(module, **settings)
    x = noise(target, 20, 12) if kind == "linear" else models.bytes_of(target, 20, high=6)
    before = {name: moved(module, name) for name in ("trits", "t_accum", "e", "e_accum")}
    backward((module(x) * noise(target, 20, module(x).shape[1], seed=1)).sum())
    report = update_memory(module)
    assert report.skipped is None
    assert report.modules_updated == 1
    return report.totals(), {name: differences(old, moved(module, name)) for name, old in before.items()}


@pytest.mark.clause("ARB-RUN-007", "ARB-UPD-001")
@pytest.mark.parametrize("kind", ["linear", "embedding"])
def test_votes_that_do_not_fire(target: Target, kind: str) -> None:
    """From empty accumulators every vote is one element that changed."""
    counts, changes = one_update(target, kind, HIGH)
    assert counts == {"votes": changes["t_accum"], "scale_votes": changes["e_accum"]} | dict.fromkeys(
        ("fires", "flips", "exponents_moved"), 0
    )
    assert changes["trits"] == changes["e"] == 0
    assert min(changes["t_accum"], changes["e_accum"]) > 0


@pytest.mark.clause("ARB-RUN-007", "ARB-UPD-001")
@pytest.mark.parametrize("kind", ["linear", "embedding"])
def test_votes_that_all_fire(target: Target, kind: str) -> None:
    """Every vote fires; its accumulator is empty then, or full at a rail, where no trit changes."""
    counts, changes = one_update(target, kind, LOW)
    assert counts["fires"] == counts["votes"] > counts["flips"] == changes["trits"] > 0
    assert counts["scale_votes"] >= counts["exponents_moved"] == changes["e"] > 0
    assert changes["t_accum"] == counts["fires"] - counts["flips"]
    assert changes["e_accum"] == 0


@pytest.mark.clause("ARB-RUN-007")
def test_counts_of_a_model(target: Target) -> None:
    """Over ten steps and six modules; a module's own counts are its own changes."""
    model = models.model_of(target)
    modules = ternary_modules(model)
    total = dict.fromkeys(EVENTS, 0)
    for step in range(10):
        before = {name: (trits_of(m), m.e.clone()) for name, m in modules.items()}
        backward(loss_of(model, models.bytes_of(target, 2, 9, seed=step)))
        report = model._ternary_update_memory()
        assert set(report.counts_of) == set(modules)
        assert report.modules_updated == len(modules) == 6
        for name, counts in report.counts_of.items():
            trits, e = before[name]
            found = dict(zip(EVENTS, counts.tolist(), strict=True))
            assert found["flips"] == differences(trits, trits_of(modules[name]))
            assert found["exponents_moved"] == differences(e, modules[name].e)
        sums = {event: int(sum(c[i] for c in report.counts_of.values())) for i, event in enumerate(EVENTS)}
        assert report.totals() == sums
        assert all(f"{event} {sums[event]}" in str(report) for event in EVENTS)
        total = {event: total[event] + sums[event] for event in EVENTS}
    assert min(total.values()) > 0
    assert [module.updates for module in modules.values()] == [10] * 6


@pytest.mark.clause("ARB-EMB-004", "ARB-EMB-005")
def test_rows_of_a_table(target: Target) -> None:
    """Rows that occur count one update each; the others do not change in any byte."""
    module = models.table(target)
    before = snapshot(module)
    tokens = torch.tensor([4, 1, 4, 4], device=target.device)
    backward((module(tokens) * noise(target, 4, 12)).sum())
    update_memory(module)
    assert module.step_counter.tolist() == [0, 1, 0, 0, 1, 0, 0, 0, 0]
    idle = [row for row in range(9) if row not in (1, 4)]
    after = snapshot(module)
    assert "t_accum" in changed(before, after)
    for name in ("codes", "t_accum", "e", "corr_accum", "moment"):
        assert torch.equal(before[name][idle], after[name][idle])
