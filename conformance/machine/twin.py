"""The judge's side of a training step: the same small model on the judge's backend, and an update of its own.

What the library does between the operations (captures summed, a skip, checkpoints, another backend) is done
here again, in few lines and by other means, so that a fault of it shows. Nothing of update.py or
checkpoint.py is used.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from arbitor.components import TernaryEmbeddingTable, TernaryModule
from arbitor.conformance.machine.clipping import clipped_gain, squared_votes
from arbitor.conformance.machine.world import (
    Configuration,
    Done,
    SmallModel,
    Step,
    forward_and_backward,
    signal_of,
)
from arbitor.kernels.registry import Backend, select

POISONED, WEIGHTS = 127, 2  # the exponent of a set that is not finite; the purpose of weight gradients
SUMMED = 131_071  # tokens of an update whose gradient is the sum itself (ARB-LIN-007)
NUMBERS = ("seed", "tensor_id", "updates")


class Twin:
    """The model that is right."""

    def __init__(self, of: Configuration, backend: str, device: str) -> None:
        self.model = SmallModel(of, backend).to(device)
        self.judge, self.device = select(backend), device
        self.modules: dict[str, TernaryModule] = {
            "embedding": self.model.embedding,
            "middle": self.model.middle,
            "head": self.model.head,
        }
        self._saved: dict[str, Any] = {}

    def do(self, step: Step) -> Done:
        """One step; a switch of the backend changes nothing here."""
        if step["do"] == "train":
            return self._train(step)
        if step["do"] == "configure":
            for module in self.modules.values():
                module.settings = replace(module.settings, **{n: v for n, v in step.items() if n != "do"})
        if step["do"] == "save":
            self._saved = {name: _copy(module) for name, module in self.modules.items()}
        if step["do"] == "resume":
            for name, module in self.modules.items():
                _restore(module, self._saved[name])
        return Done()

    def _train(self, step: Step) -> Done:
        losses = forward_and_backward(self.model, step, self.device)
        signal = signal_of(step, losses)
        finite = signal is None or bool(torch.isfinite(torch.as_tensor(signal)))
        taken = {name: module for name, module in self.modules.items() if module.captures}
        ready = {name: _quantised(self.judge, module) for name, module in taken.items()}
        for module in self.modules.values():
            module.captures.clear()
            module.passes.clear()
        if not finite or any(poisoned for _, poisoned in ready.values()):
            return Done(losses, True, {})
        gains = {n: step[n] for n in ("gain", "scale_gain") if step[n] is not None}
        counts = {}
        for name, module in taken.items():
            counts[name] = _updated(self.judge, module, ready[name][0], gains, step.get("told", 0))
            module.updates += 1
        return Done(losses, False, counts)


def _quantised(judge: Backend, module: TernaryModule) -> tuple[dict[str, torch.Tensor], bool]:
    """The operands of the module's update over all captures, and whether they are poisoned."""
    captures = module.captures
    random = {"seed": module.seed, "step": module.updates, "stream": 16 * module.tensor_id + WEIGHTS}
    dy = torch.cat([capture.dy for capture in captures])
    if isinstance(module, TernaryEmbeddingTable):
        flat = dy.reshape(1, -1)
        q, exponents = judge.quantise_stochastic(x=flat, **random, first_row=0)
        operands = {"tokens": torch.cat([c.tokens for c in captures]), "q": q.reshape(dy.shape)}
        operands["e_g"] = exponents
    else:
        e_x = torch.cat([capture.e_x for capture in captures])
        q_g, exponents = judge.quantise_columns(dy=dy, e_x=e_x, **random, first_row=0)
        q_x = torch.cat([capture.q_t.t() for capture in captures]).contiguous()
        operands = {"q_g": q_g, "e_g": exponents, "q_x": q_x}
    return operands, POISONED in exponents.tolist()


def _updated(
    judge: Backend,
    module: TernaryModule,
    operands: dict[str, torch.Tensor],
    gains: dict[str, int],
    told: int,
) -> tuple[int, ...]:
    """Update the module's state in place, by a loss that was 2^told times as large; gives the counts."""
    shape, settings = module.shape, module.settings
    how: dict[str, Any] = {
        "e_base": shape.e_base, "e_span": shape.e_span, "group_size": shape.group_size,
        "rule": settings.rule, "gain": settings.gain, "vote_max": settings.vote_max,
        "accum_threshold": settings.accum_threshold, "scale_gain": settings.scale_gain,
        "e_accum_threshold": settings.e_accum_threshold,
        "seed": module.seed, "tensor_id": module.tensor_id, "step": module.updates,
    }  # fmt: skip
    operation = judge.embedding_update if "tokens" in operands else judge.linear_update
    shift = 3 * ("q_g" in operands and len(operands["q_g"]) > SUMMED)
    exponents = [min(max(e + shift - told, -100), 125) for e in operands["e_g"].tolist()]
    given = operands
    operands = operands | {"e_g": torch.tensor(exponents, dtype=torch.int8, device=operands["e_g"].device)}
    if shift:
        gradient = shifted_sum(operands["q_g"], operands["q_x"])
        operation, operands = judge.ternary_update, {"gradient": gradient, "e_g": operands["e_g"]}
    how |= gains
    how["gain"] = min(how["gain"] * settings.rate // 256, 2**22)
    if "q_x" in given and settings.rule == "adaptive":
        squared = squared_votes(module, given["q_g"], given["q_x"], exponents, shift)
        how["gain"] = clipped_gain(how["gain"], *squared)
    counts: tuple[int, ...] = tuple(operation(**operands, **module.state(), **how).tolist())
    return counts


def shifted_sum(q_g: torch.Tensor, q_x: torch.Tensor) -> torch.Tensor:
    """G int32 [O, I] of an update of more than SUMMED tokens; float64 has its sums exactly."""
    total = (q_g.double().t() @ q_x.double()).long()
    return ((total + 4) >> 3).int()


def _copy(module: TernaryModule) -> dict[str, Any]:
    numbers = {name: getattr(module, name) for name in (*NUMBERS, "shape", "settings")}
    return {"numbers": numbers, "arrays": {n: array.clone() for n, array in module.state().items()}}


def _restore(module: TernaryModule, saved: dict[str, Any]) -> None:
    for name, value in saved["numbers"].items():
        setattr(module, name, value)
    for name, array in module.state().items():
        array.copy_(saved["arrays"][name])
