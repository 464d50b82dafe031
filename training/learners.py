"""What learns: ARBModel with its integer update, a control with frozen trits, or a float twin with AdamW.

A learner owns a model and knows how to make one update from a loss and how to give and take its state. The
loop does not know which one it drives.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from arbitor.main import ARBConfig, ARBModel
from arbitor.ranks import Ranks
from arbitor.schedule import Q16, scheduled_gain, scheduled_scale_gain
from arbitor.update import ternary_modules

from .baselines import BaselineParts
from .options import Options
from .ternary_runtime import configure_ternary_training, join_ranks

WARMUP = 40  # updates, of a baseline's learning rate
MOMENTS = "optimiser."  # begins the names of a baseline's moments


@dataclass(frozen=True)
class Updated:
    """What one update did: counts int64 [5] on the device, by `arbitor.update.COUNTS`, None where
    nothing is counted; and why it was skipped, if it was."""

    counts: torch.Tensor | None = None
    skipped: str | None = None


class Learner(Protocol):
    """A model and its update."""

    model: ARBModel
    name: str
    precision: str  # of float32 products on CUDA, as torch.set_float32_matmul_precision has it
    autocast: torch.dtype | None  # what products are cast to, if anything

    def join(self, ranks: Ranks) -> None:
        """Learn together with the other ranks."""
        ...

    def accumulate(self, loss: torch.Tensor) -> None:
        """Backward of a microbatch's scalar loss; `update` takes what all calls since the last one left."""
        ...

    def update(self, loss_signal: torch.Tensor, done: int, total: int) -> Updated:
        """One update, if the detached loss is finite; `done` of `total` updates are behind."""
        ...

    def state(self) -> dict[str, torch.Tensor]:
        """All state by name, for a checkpoint."""
        ...

    def load_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take over what `state` gave."""
        ...

    def columns(self) -> dict[str, int]:
        """Logical columns of every tensor of packed codes."""
        ...

    def recorded(self) -> dict[str, torch.Tensor]:
        """State tensors whose digests are the same on every device, on the model's; empty where none are."""
        ...


def model_config(options: Options, shape: Mapping[str, Any] | None = None) -> ARBConfig:
    """Shape of the model that the options ask for; `shape` is what the data decides of it."""
    window = options.window
    if options.preserve_state and window is None:
        window = options.ctx
    return ARBConfig(
        options.d_model,
        options.layers,
        options.heads,
        window=window,
        group_size=options.group_size,
        seed=options.seed,
        experts=options.experts,
        top_k=options.top_k,
        max_moe_iters=options.max_moe_iters,
        **(shape or {}),
    )


def autocast_dtype(options: Options) -> torch.dtype | None:
    """What float products are cast to; None leaves them in float32."""
    return torch.bfloat16 if options.dtype == "bfloat16" else None


def make_learner(
    options: Options,
    device: torch.device,
    shape: Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Learner:
    """The learner that the options ask for, on `device`; `shape` and `flags` of the model are the task's."""
    config = model_config(options, shape)
    kind = FloatLearner if options.baseline else TernaryLearner
    return kind(options, config, device, flags or {})


def _compiles(device: torch.device) -> bool:
    """Whether a twin is compiled: on CUDA with ARB_TORCH_COMPILE=1."""
    return device.type == "cuda" and os.environ.get("ARB_TORCH_COMPILE") == "1"


class TernaryLearner:
    """ARBModel: an integer update from all that was captured, gains on the schedule of section 8."""

    precision = "highest"
    autocast: torch.dtype | None = None

    def __init__(
        self, options: Options, config: ARBConfig, device: torch.device, flags: Mapping[str, Any]
    ) -> None:
        self.model = ARBModel(config, backend=options.backend, **flags).to(device)
        self.name = "frozen control" if options.control else f"ternary, {options.vote_rule} votes"
        self._gain, self._scale_gain = round(options.gain * Q16), round(options.scale_gain * Q16)
        self._cooldown = options.cooldown
        configure_ternary_training(
            self.model,
            options.accum_threshold,
            options.e_accum_threshold,
            rule=options.vote_rule,
            vote_max=options.vote_max,
        )
        for module in ternary_modules(self.model).values():
            module.frozen = options.control == "frozen"

    def join(self, ranks: Ranks) -> None:
        """Updates are of all ranks' tokens, bit for bit (ARB-RANK-001)."""
        join_ranks(self.model, ranks, means=False)  # the loop divides by the tokens of all

    def accumulate(self, loss: torch.Tensor) -> None:
        """Backward once; the modules capture."""
        loss.backward()

    def update(self, loss_signal: torch.Tensor, done: int, total: int) -> Updated:
        """The integer update."""
        report = self.model._ternary_update_memory(
            loss_signal=loss_signal,
            gain=scheduled_gain(self._gain, done, total, self._cooldown),
            scale_gain=scheduled_scale_gain(self._scale_gain, done, total),
        )
        return Updated(report.counts(), report.skipped)

    def state(self) -> dict[str, torch.Tensor]:
        """The model's state."""
        return dict(self.model.state_dict())

    def load_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Checked before anything is changed."""
        self.model.load_state_dict(dict(tensors))

    def columns(self) -> dict[str, int]:
        """In-features by name of the packed tensor."""
        return {f"{name}.codes": module.shape.columns for name, module in ternary_modules(self.model).items()}

    def recorded(self) -> dict[str, torch.Tensor]:
        """All of every ternary module."""
        modules = ternary_modules(self.model).items()
        return {f"{name}.{part}": held for name, module in modules for part, held in module.state().items()}


class FloatLearner:
    """A twin with float32 weights and AdamW (0.9, 0.95), warm-up and then the schedule of section 8."""

    precision = "high"  # TF32, if not bfloat16: what people train such twins with
    autocast: torch.dtype | None

    def __init__(
        self, options: Options, config: ARBConfig, device: torch.device, flags: Mapping[str, Any]
    ) -> None:
        parts = BaselineParts(str(options.baseline), options.seed)
        self.model = ARBModel(config, parts=parts, **flags).to(device)
        if _compiles(device):
            # not the angles: fused, they would be computed in float64 for every head
            work = parts.float_work
            work._angles = torch.compiler.disable(work._angles)  # type: ignore[method-assign]
            self.model.compile()
        self.name = f"{options.baseline} + AdamW"
        self.autocast = autocast_dtype(options)
        self._lr = options.lr
        self._ranks: Ranks | None = None
        self._cooldown = options.cooldown
        self._optimiser = torch.optim.AdamW(
            self.model.parameters(),
            lr=options.lr,
            betas=(0.9, 0.95),
            weight_decay=options.weight_decay,
            fused=device.type == "cuda",
        )

    def join(self, ranks: Ranks) -> None:
        """Gradients are summed over the ranks, in float32 and so not bit for bit those of one."""
        self._ranks = ranks

    def accumulate(self, loss: torch.Tensor) -> None:
        """Backward once; gradients add up."""
        loss.backward()

    def update(self, loss_signal: torch.Tensor, done: int, total: int) -> Updated:
        """Clip the gradient's norm at 1, one AdamW step. As the integer update it is skipped, and nothing
        changed, where that norm or the loss is not finite."""
        parameters = [*self.model.parameters()]
        if self._ranks is not None:
            self._ranks.sum_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, 1.0)
        looked = {"loss": loss_signal, "norm of the gradient": norm}
        # one wait for the device
        values = torch.stack([value.to(norm) for value in looked.values()]).tolist()
        for name, value in zip(looked, values, strict=True):
            if not math.isfinite(value):
                self._optimiser.zero_grad(set_to_none=True)
                return Updated(skipped=f"{name} is not finite ({value})")
        share = scheduled_gain(Q16, done, total, self._cooldown) / Q16 * min(1.0, (done + 1) / WARMUP)
        for group in self._optimiser.param_groups:
            group["lr"] = self._lr * share
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        return Updated()

    def state(self) -> dict[str, torch.Tensor]:
        """Weights, and the optimiser's moments and step counts."""
        tensors = dict(self.model.state_dict())
        for name, parameter in self.model.named_parameters():
            for key, value in self._optimiser.state.get(parameter, {}).items():
                tensors[f"{MOMENTS}{name}.{key}"] = value
        return tensors

    def load_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Weights by name, moments to their parameters; those from before go. The tensors are copied.

        Raises ValueError for a name or a shape that does not fit, before anything is changed.
        """
        parameters = dict(self.model.named_parameters())
        weights: dict[str, torch.Tensor] = {}
        moments: dict[str, dict[str, torch.Tensor]] = {name: {} for name in parameters}
        shapes = {name: value.shape for name, value in self.model.state_dict().items()}
        for name, value in tensors.items():
            owner, _, key = name.removeprefix(MOMENTS).rpartition(".")
            if name.startswith(MOMENTS) and owner in parameters:
                beside = value.dim() or self._optimiser.defaults["fused"]  # such a step counts on the device
                device = parameters[owner].device if beside else torch.device("cpu")
                moments[owner][key] = value.to(device, copy=True)
                expected = shapes[owner] if key in ("exp_avg", "exp_avg_sq") else torch.Size()
            else:
                weights[name], expected = value, shapes.get(name, value.shape)
            if value.shape != expected:
                raise ValueError(f"{name} must have shape {tuple(expected)}, got {tuple(value.shape)}")
        self.model.load_state_dict(weights)
        self._optimiser.state.clear()
        for name, found in moments.items():
            if found:
                self._optimiser.state[parameters[name]] = found

    def columns(self) -> dict[str, int]:
        """No packed tensors."""
        return {}

    def recorded(self) -> dict[str, torch.Tensor]:
        """None: float work has other bits elsewhere."""
        return {}
