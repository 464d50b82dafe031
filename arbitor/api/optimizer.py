"""The ternary part of a model, as a torch optimiser is asked: step, zero_grad, state_dict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..runtime import configure_ternary_training, leave_to_ranks
from ..schedule import Q16, UpdateRule, scheduled_gain, scheduled_scale_gain
from ..update import UpdateReport, require_own_bits, ternary_modules, update_memory
from .loading import check_before_loading

VERSION = 1


class TernaryOptimizer:
    """Updates every ternary module of `model` from what backward captured; floats are another optimiser's.

        ternary = TernaryOptimizer(model, total_steps=1000)
        floats = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for x, y in batches:
            ternary.zero_grad()
            floats.zero_grad()
            loss_of(model(x), y).backward()
            floats.step()
            ternary.step()

    gain and scale_gain: votes and scale votes of an element of mean size, 0 to 255. With `total_steps` they
    fall as section 8 of the specification says; without they stay. Thresholds: 1 to 127. Raises ValueError or
    TypeError for a setting out of range, and for a model without ternary modules.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        gain: float = 3.0,
        scale_gain: float = 0.25,
        accum_threshold: int = 32,
        e_accum_threshold: int = 32,
        vote_max: int = 16,
        rule: str = "scaled",
        total_steps: int | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            found = type(model).__name__
            raise TypeError(
                f"TernaryOptimizer takes the model: ternary weights are no parameters; got a {found}"
            )
        require_own_bits(ternary_modules(model))
        if not ternary_modules(model):
            raise ValueError("the model has no ternary modules: call arbitor.ternarize(model) first")
        if total_steps is not None and (type(total_steps) is not int or total_steps < 1):
            raise ValueError(f"total_steps must be an integer of at least 1, or None, got {total_steps!r}")
        self.model, self.total_steps, self.steps = model, total_steps, 0
        self._set(
            UpdateRule(
                rule=rule,
                gain=_q16("gain", gain),
                vote_max=vote_max,
                accum_threshold=accum_threshold,
                scale_gain=_q16("scale_gain", scale_gain),
                e_accum_threshold=e_accum_threshold,
            )
        )
        check_before_loading(model)
        leave_to_ranks(model)

    def _set(self, settings: UpdateRule) -> None:
        self.settings = settings
        configure_ternary_training(self.model, **vars(settings))

    def step(
        self,
        loss_signal: torch.Tensor | float | None = None,
        *,
        signals: Mapping[str, torch.Tensor] | None = None,
    ) -> UpdateReport:
        """Update all ternary modules that have captures, or none; captures are gone afterwards.

        A poisoned gradient, or a `loss_signal` that is not finite, or one of `signals`, which have names,
        skips the update: the report says so, and the step counts all the same, as a scheduler's does. Raises
        RuntimeError if no backward came to its end since the last step. Where every module is frozen it does
        nothing. Behind the last step of a schedule its last gain stays.
        """
        self._set(self.settings)  # those of a state that was loaded meanwhile are not this optimiser's
        gain = scale_gain = None
        if self.total_steps is not None:
            done = min(self.steps, self.total_steps - 1)
            gain = scheduled_gain(self.settings.gain, done, self.total_steps)
            scale_gain = scheduled_scale_gain(self.settings.scale_gain, done, self.total_steps)
        if not any(module.trains for module in ternary_modules(self.model).values()):
            self.steps += 1
            return UpdateReport()
        report = update_memory(
            self.model, loss_signal=loss_signal, gain=gain, scale_gain=scale_gain, signals=signals
        )
        self.steps += 1
        return report

    def step_with(
        self,
        floats: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler | None = None,
        loss_signal: torch.Tensor | float | None = None,
    ) -> UpdateReport:
        """`step`, and that of the optimiser of the float parameters: both are made, or neither is.

        Neither is where a gradient of `floats` or of a ternary module is not finite, or `loss_signal`. With a
        `scaler` it does what `scaler.step(floats); scaler.update()` do; they are not to be called besides,
        `scaler.unscale_(floats)` may be. Its factors are powers of two, which ternary updates do not notice.
        Raises as `step` does.
        """
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        signals = {}
        for number, parameter in enumerate(p for group in floats.param_groups for p in group["params"]):
            if parameter.grad is not None:
                name = names.get(id(parameter), f"float parameter {number}")
                signals[f"gradient of {name}"] = _zero_if_finite(parameter.grad)
        report = self.step(loss_signal, signals=signals)
        if report.skipped is None:
            floats.step() if scaler is None else scaler.step(floats)
            if scaler is not None:
                scaler.update()
        elif scaler is not None and scaler.is_enabled():
            scaler.update(scaler.get_scale() * scaler.get_backoff_factor())
            scaler.load_state_dict(scaler.state_dict() | {"_growth_tracker": 0})  # as after its own skips
        return report

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget what backward captured since the last step; `set_to_none` is there as torch has it."""
        for module in ternary_modules(self.model).values():
            module.clear_captures()

    def state_dict(self) -> dict[str, Any]:
        """Settings and place in the schedule; the weights and their accumulators are in the model's own."""
        settings = vars(self.settings).copy()
        return {
            "version": VERSION,
            "steps": self.steps,
            "total_steps": self.total_steps,
            "settings": settings,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave. Raises ValueError, before anything is changed, for anything
        else."""
        if set(state_dict) != {"version", "steps", "total_steps", "settings"}:
            raise ValueError(f"this is no state of a TernaryOptimizer: it has {sorted(state_dict)}")
        if state_dict["version"] != VERSION:
            raise ValueError(f"its version is {state_dict['version']!r}, expected {VERSION}")
        steps, total, settings = state_dict["steps"], state_dict["total_steps"], state_dict["settings"]
        known = sorted(UpdateRule.__dataclass_fields__)
        if sorted(settings) != known:
            raise ValueError(f"settings are {sorted(settings)}, expected {known}")
        whole = type(steps) is int and steps >= 0
        if not whole or not (total is None or (type(total) is int and total >= 1)):
            raise ValueError(f"it is of step {steps!r} of total_steps {total!r}, which is none")
        self._set(UpdateRule(**settings))
        self.steps, self.total_steps = steps, total


def _zero_if_finite(gradient: torch.Tensor) -> torch.Tensor:
    """0 [] if all of a gradient is finite, else NaN; of a DTensor, this rank's part."""
    local: torch.Tensor = getattr(gradient, "to_local", lambda: gradient)()
    return (local.detach().float() * 0).sum()


def _q16(name: str, value: float) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 256:
        raise ValueError(f"{name} must be a number of 0 to less than 256, got {value!r}")
    return round(value * Q16)
