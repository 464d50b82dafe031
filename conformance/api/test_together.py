"""Ternary and float parameters take their step together, or neither does: GradScaler, gradients that are not
finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import arbitor
from arbitor.checkpoint import state_hash
from arbitor.conformance.api.gpt import GPT, batches, loss_of, made
from arbitor.conformance.judge.target import Target
from arbitor.gradients.prepared import Prepared


def run(
    target: Target, scaler: torch.amp.GradScaler | None, spoil: Callable[[GPT, int], Any] | None = None
) -> tuple[str, list[str | None]]:
    """The state after four steps, and why each was skipped."""
    model = made(target.device, target.backend.name)
    ternary = arbitor.TernaryOptimizer(model, gain=8.0, accum_threshold=4)
    floats = torch.optim.AdamW(model.parameters(), lr=1e-2)
    reasons = []
    for number, batch in enumerate(batches(target.device, 4)):
        ternary.zero_grad()
        floats.zero_grad()
        loss = loss_of(model, batch)
        handle = None if spoil is None else spoil(model, number)
        (loss if scaler is None else scaler.scale(loss)).backward()
        if handle is not None:
            handle.remove()
        before = state_hash(model.state_dict())
        reasons.append(ternary.step_with(floats, scaler).skipped)
        assert (state_hash(model.state_dict()) == before) == (reasons[-1] is not None)
    return state_hash(model.state_dict()), reasons


def scaler_of(target: Target) -> torch.amp.GradScaler:
    return torch.amp.GradScaler(target.device, init_scale=2.0**16, growth_interval=3)


@pytest.mark.clause("ARB-RUN-005")
def test_a_scale_changes_nothing(target: Target) -> None:
    """A power of two: ternary gradients are shares of their group, floats are divided by it again."""
    scaler = scaler_of(target)
    assert run(target, scaler) == run(target, None)
    assert scaler.get_scale() == 2**17, "it has grown as it does"


def spoiled(model: GPT, number: int) -> Any:
    """In the second step a float gradient is infinite."""
    if number != 1:
        return None
    return model.head.bias.register_hook(lambda gradient: gradient * float("inf"))


@pytest.mark.clause("ARB-RUN-005")
@pytest.mark.parametrize("scaled", [False, True])
def test_a_float_gradient_that_is_not_finite(target: Target, scaled: bool) -> None:
    """Neither takes the step, whose reason is said by name; the scale falls."""
    scaler = scaler_of(target) if scaled else None
    _, reasons = run(target, scaler, spoiled)
    assert reasons == [None, "gradient of head.bias is not finite (nan)", None, None]
    if scaler is not None:
        assert scaler.get_scale() == 2**15


@pytest.mark.clause("ARB-RUN-005")
@pytest.mark.parametrize("scaled", [False, True])
def test_a_ternary_gradient_that_is_not_finite(
    target: Target, scaled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The float half alone would have taken its step."""
    scaler = scaler_of(target) if scaled else None

    def spoil(model: GPT, number: int) -> None:
        up = model.blocks[1].up
        if number == 2:
            prepare = up.prepare

            def poisoned() -> Any:
                up.captures[0].dy[0, 0] = float("inf")
                return prepare()

            monkeypatch.setattr(up, "prepare", poisoned)
        elif number == 3:
            monkeypatch.undo()

    _, reasons = run(target, scaler, spoil)
    assert reasons == [None, None, "gradient of blocks.1.up is not finite", None]
    if scaler is not None:
        assert scaler.get_scale() == 2**15


@pytest.mark.clause("ARB-RUN-005")
def test_unscaled_before(target: Target) -> None:
    """As clipping wants it: the scaler is told of the skip, and goes on."""
    model = made(target.device, target.backend.name)
    ternary = arbitor.TernaryOptimizer(model)
    floats = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scaler = scaler_of(target)
    for number, batch in enumerate(batches(target.device, 3)):
        floats.zero_grad()
        scaler.scale(loss_of(model, batch)).backward()
        scaler.unscale_(floats)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        signal = float("nan") if number == 1 else 1.0
        report = ternary.step_with(floats, scaler, signal)
        assert (report.skipped is not None) == (number == 1)
    assert scaler.get_scale() == 2**15


@pytest.mark.clause("ARB-RUN-002")
@pytest.mark.parametrize(
    ("signal", "error", "words"),
    [
        ("much", TypeError, "loss_signal must be a number or a tensor of a float dtype, got str"),
        (torch.ones((), dtype=torch.complex64), TypeError, "got a tensor of torch.complex64"),
        ([1.0], TypeError, "got list"),
    ],
)
def test_a_signal_that_is_none(target: Target, signal: Any, error: type[Exception], words: str) -> None:
    model = made(target.device, target.backend.name)
    ternary = arbitor.TernaryOptimizer(model)
    loss_of(model, next(batches(target.device, 1))).backward()
    before = state_hash(model.state_dict())
    with pytest.raises(error, match=words):
        ternary.step(signal)
    assert state_hash(model.state_dict()) == before


@pytest.mark.clause("ARB-RUN-017")
@pytest.mark.parametrize("factor", [3.0, 0.0, -2.0, float("inf"), float("nan")])
def test_a_factor_that_is_no_power_of_two(target: Target, factor: float) -> None:
    """Is refused before anything is changed, also a scaler's; the captures are gone as with any error."""
    model = made(target.device, target.backend.name)
    ternary = arbitor.TernaryOptimizer(model)
    before = [tensor.clone() for tensor in model.state_dict().values()]
    loss_of(model, next(batches(target.device, 1))).backward()
    with pytest.raises(ValueError, match="loss_scale must be a power of two"):
        ternary.step(loss_scale=factor)
    assert all(map(torch.equal, model.state_dict().values(), before))
    if factor == 3.0:
        floats = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for name in ("init_scale", "growth_factor", "backoff_factor"):
            value = 0.3 if name == "backoff_factor" else 3.0
            factors: dict[str, Any] = {name: value}
            scaler = torch.amp.GradScaler(target.device, **factors)
            scaler.scale(loss_of(model, next(batches(target.device, 1)))).backward()
            words = f"{name} of the GradScaler must be a power of two, got {value}"
            with pytest.raises(ValueError, match=words):
                ternary.step_with(floats, scaler)
            assert all(map(torch.equal, model.state_dict().values(), before))


@pytest.mark.clause("ARB-RUN-017")
@pytest.mark.parametrize("factor", [True, "4", None, torch.tensor(4.0)])
def test_a_factor_that_is_no_number(target: Target, factor: Any) -> None:
    ternary = arbitor.TernaryOptimizer(made(target.device, target.backend.name))
    loss_of(ternary.model, next(batches(target.device, 1))).backward()
    with pytest.raises(TypeError, match="loss_scale must be a number"):
        ternary.step(loss_scale=factor)


@pytest.mark.clause("ARB-RUN-017", "ARB-UPD-004")
def test_a_factor_leaves_exponents_in_their_range(target: Target) -> None:
    """The ends of what a quantiser gives and the middle, of the factors that have the most octaves."""
    e_g = torch.tensor([-100, 0, 122], dtype=torch.int8, device=target.device)
    prepared = Prepared((e_g, e_g), e_g, e_g.new_zeros(()).bool())
    lowered = {octaves: prepared.lowered(octaves) for octaves in (0, -3, 126, -126)}
    assert {tensor.dtype for tensor in lowered.values()} == {torch.int8}
    assert {octaves: tensor.tolist() for octaves, tensor in lowered.items()} == {
        0: [-100, 0, 122], -3: [-97, 3, 125], 126: [-100, -100, -4], -126: [26, 125, 125],
    }  # fmt: skip


@pytest.mark.clause("ARB-RUN-017", "ARB-MOM-003")
def test_a_factor_that_changes_from_step_to_step(target: Target) -> None:
    """Is not seen where it is told, and is where it is not."""
    ends = []
    for factors, told in (
        ([1.0] * 4, False),
        ([1.0, 2.0**9, 2.0**-5, 4.0], True),
        ([1.0, 2.0, 4.0, 8.0], False),
    ):
        model = made(target.device, target.backend.name)
        ternary = arbitor.TernaryOptimizer(model)
        for batch, factor in zip(batches(target.device, 4), factors, strict=True):
            (loss_of(model, batch) * factor).backward()
            ternary.step(loss_scale=factor if told else 1.0)
        ends.append([tensor.tolist() for tensor in model.state_dict().values()])
    assert ends[0] == ends[1] != ends[2]
