"""The ternary part of a model, as a torch optimiser is asked: step, zero_grad, state_dict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from arbitor.kernels.operations import SCALAR_RANGES

from ..runtime import configure_ternary_training, leave_to_ranks
from ..schedule import (
    COOLDOWN,
    Q16,
    UpdateRule,
    check_cooldown,
    fixed_point,
    scheduled_gain,
    scheduled_scale_gain,
)
from ..update import UpdateReport, require_own_bits, ternary_modules, update_memory
from .loading import check_before_loading

VERSION = 2  # of its state: that of the specification


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

    gain: votes of an element of the size that its group usually has, 0 to 64; scale_gain: scale votes, 0 to
    16. With `total_steps` gain falls in the last `cooldown` % of them, scale_gain until 60 %, as section 8 of
    the specification says; without they stay. accum_threshold, vote_max: 1 to 32. Raises ValueError or
    TypeError for a setting out of range, and for a model without ternary modules.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        gain: float = 4.0,
        scale_gain: float = 1 / 32,
        accum_threshold: int = 32,
        e_accum_threshold: int = 32,
        vote_max: int = 16,
        rule: str = "adaptive",
        total_steps: int | None = None,
        cooldown: int = COOLDOWN,
    ) -> None:
        if not isinstance(model, nn.Module):
            found = type(model).__name__
            raise TypeError(
                f"TernaryOptimizer takes the model: ternary weights are no parameters; got a {found}"
            )
        require_own_bits(ternary_modules(model))
        if not ternary_modules(model):
            raise ValueError("the model has no ternary modules: call arbitor.ternarize(model) first")
        _check_total(total_steps)
        check_cooldown(cooldown)
        self.model, self.total_steps, self.cooldown, self.steps = model, total_steps, cooldown, 0
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

    def __setattr__(self, name: str, value: Any) -> None:
        """As of any object, but settings have a way of their own, and a schedule is looked at first. Raises
        AttributeError and ValueError."""
        if name in UpdateRule.__dataclass_fields__:
            raise AttributeError(f"set {name} with configure({name}={value!r}): it is every layer's")
        if name == "total_steps":
            _check_total(value)
        if name == "cooldown":
            check_cooldown(value)
        super().__setattr__(name, value)

    def configure(self, **settings: Any) -> None:
        """Other settings from the next step on, by the names and in the units of the constructor. Raises
        TypeError for an unknown one and ValueError for a value out of range; then nothing has changed."""
        for name in ("gain", "scale_gain"):
            if name in settings:
                settings[name] = _q16(name, settings[name])
        if "rate" in settings:
            raise TypeError("a rate is a layer's own: give it to the layer")
        self._set(replace(self.settings, **settings))

    def _set(self, settings: UpdateRule) -> None:
        self.settings = settings
        # rates are the layers' own
        shared = {name: value for name, value in vars(settings).items() if name != "rate"}
        configure_ternary_training(self.model, **shared)

    def step(
        self,
        loss_signal: torch.Tensor | float | None = None,
        *,
        signals: Mapping[str, torch.Tensor] | None = None,
        loss_scale: float = 1.0,
    ) -> UpdateReport:
        """Update all ternary modules that have captures, or none; captures are gone afterwards.

        A poisoned gradient, or a `loss_signal` that is not finite, or one of `signals`, which have names,
        skips the update: the report says so, and the step counts all the same, as a scheduler's does.
        `loss_scale`: a power of two that the loss was multiplied by, each step another if need be. If all
        modules are frozen it does nothing. Behind the last step of a schedule its last gain stays. Raises
        RuntimeError if no backward came to its end since the last step.
        """
        self._set(self.settings)  # those of a state that was loaded meanwhile are not this optimiser's
        gain = scale_gain = None
        if self.total_steps is not None:
            done = min(self.steps, self.total_steps - 1)
            gain = scheduled_gain(self.settings.gain, done, self.total_steps, self.cooldown)
            scale_gain = scheduled_scale_gain(self.settings.scale_gain, done, self.total_steps)
        if not any(module.trains for module in ternary_modules(self.model).values()):
            self.steps += 1
            return UpdateReport()
        report = update_memory(
            self.model,
            loss_signal=loss_signal,
            gain=gain,
            scale_gain=scale_gain,
            signals=signals,
            loss_scale=loss_scale,
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
        `scaler.unscale_(floats)` may be. Its factor has to be a power of two, as its defaults are: ternary
        updates do not notice it then. Raises as `step` does.
        """
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        signals = {}
        for number, parameter in enumerate(p for group in floats.param_groups for p in group["params"]):
            if parameter.grad is not None:
                name = names.get(id(parameter), f"float parameter {number}")
                signals[f"gradient of {name}"] = _zero_if_finite(parameter.grad)
        factor = _factor_of(scaler) if scaler is not None and scaler.is_enabled() else 1.0
        report = self.step(loss_signal, signals=signals, loss_scale=factor)
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
            "cooldown": self.cooldown,
            "settings": settings,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave. Raises ValueError, before anything is changed, for anything
        else."""
        if not isinstance(state_dict, Mapping) or not isinstance(state_dict.get("settings"), Mapping):
            raise ValueError("this is no state of a TernaryOptimizer: it has no settings")
        if state_dict.get("version", VERSION) != VERSION:
            raise ValueError(
                f"its version is {state_dict['version']!r}, that of its specification, expected {VERSION}"
            )
        if set(state_dict) != {"version", "steps", "total_steps", "cooldown", "settings"}:
            raise ValueError(f"this is no state of a TernaryOptimizer: it has {sorted(state_dict)}")
        steps, total, settings = state_dict["steps"], state_dict["total_steps"], state_dict["settings"]
        known = sorted(UpdateRule.__dataclass_fields__)
        if sorted(settings) != known:
            raise ValueError(f"settings are {sorted(settings)}, expected {known}")
        whole = type(steps) is int and steps >= 0
        if not whole or not (total is None or (type(total) is int and total >= 1)):
            raise ValueError(f"it is of step {steps!r} of total_steps {total!r}, which is none")
        check_cooldown(state_dict["cooldown"])
        self._set(UpdateRule(**settings))
        self.steps, self.total_steps, self.cooldown = steps, total, state_dict["cooldown"]


def _zero_if_finite(gradient: torch.Tensor) -> torch.Tensor:
    """0 [] if all of a gradient is finite, else NaN; of a DTensor, this rank's part."""
    local: torch.Tensor = getattr(gradient, "to_local", lambda: gradient)()
    return (local.detach().float() * 0).sum()


def _check_total(total_steps: Any) -> None:
    if total_steps is not None and (type(total_steps) is not int or total_steps < 1):
        raise ValueError(f"total_steps must be an integer of at least 1, or None, got {total_steps!r}")


def _factor_of(scaler: torch.amp.GradScaler) -> float:
    """What a loss is multiplied by now. Raises ValueError for a scaler that has, or will have, a factor that
    is no power of two."""
    factors = {
        "init_scale": scaler.get_scale(),
        "growth_factor": scaler.get_growth_factor(),
        "backoff_factor": scaler.get_backoff_factor(),
    }
    for name, value in factors.items():
        if math.frexp(value)[0] != 0.5:
            raise ValueError(f"{name} of the GradScaler must be a power of two, got {value}")
    return factors["init_scale"]


def _q16(name: str, value: float) -> int:
    return fixed_point(name, value, Q16, SCALAR_RANGES[name][1])
