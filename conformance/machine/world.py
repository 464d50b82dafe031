"""A small model on one backend, and the steps that a run is made of.

A step is a mapping with `do`, so that a run is JSON and needs nothing to be repeated:

    {"do": "train", "parts": [[3, 1, 3], [0, 2]], "uses": 2, "scale": -3, "signal": "loss", "poison": null,
     "gain": 65536, "scale_gain": null}
            forward and backward of every part, each with its share of the loss times 2^scale, then one
            update; the middle layer is used `uses` times in a forward; `signal` is what goes as loss_signal,
            the loss, "none", "nan" or "inf"; `told`, which may be left out, says that the loss was multiplied
            by 2^told; `poison` puts a value that is not finite into the gradient of a
            module's output, {"where": "middle", "value": "nan"}
    {"do": "configure", "accum_threshold": 2, ...}      fields of UpdateRule, on every module
    {"do": "save", "format": "dense"}                   a checkpoint in a file
    {"do": "resume"}                                    a fresh model from the checkpoint that was saved last
    {"do": "switch"}                                    on with the state on the other backend, or back

One that comes from a file is checked first (recorded.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from arbitor.checkpoint import load_checkpoint, save_checkpoint
from arbitor.components import TernaryEmbeddingTable, TernaryLinear, TernaryModule
from arbitor.runtime import configure_ternary_training
from arbitor.update import ternary_modules, update_memory

Step = Mapping[str, Any]
MODULES = ("embedding", "middle", "head")
POISONS = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}


def rms_norm(x: torch.Tensor) -> torch.Tensor:
    """Float work of a user's own model: x over its root mean square."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


@dataclass(frozen=True)
class Configuration:
    """Shape and seed of the model, and the number of updates that its counters begin with."""

    vocabulary: int = 5
    width: int = 8
    group_size: int = 4
    e_span: int = 4
    seed: int = 0
    updates: int = 0


@dataclass(frozen=True)
class Done:
    """What a step gave beside the state: the loss of each part, whether the update was skipped, and the
    counts of each module that was updated."""

    losses: tuple[torch.Tensor, ...] = ()
    skipped: bool = False
    counts: Mapping[str, tuple[int, ...]] | None = None


class SmallModel(nn.Module):
    """Table, a layer that a forward may use several times or not at all, and a head."""

    def __init__(self, of: Configuration, backend: str) -> None:
        super().__init__()
        how = {"seed": of.seed, "group_size": of.group_size, "e_span": of.e_span, "backend": backend}
        self.embedding = TernaryEmbeddingTable(of.vocabulary, of.width, tensor_id=0, **how)
        self.middle = TernaryLinear(of.width, of.width, tensor_id=1, **how)
        self.head = TernaryLinear(of.width, of.vocabulary, tensor_id=2**28 - 1, **how)
        for module in ternary_modules(self).values():
            module.updates = of.updates

    def forward(self, tokens: torch.Tensor, uses: int, poison: Mapping[str, str] | None) -> torch.Tensor:
        """tokens int64 [T] -> logits float32 [T, vocabulary]."""
        x = rms_norm(self._poisoned("embedding", self.embedding(tokens), poison))
        for _ in range(uses):
            x = x + self._poisoned("middle", self.middle(rms_norm(x)), poison)
        return self._poisoned("head", self.head(rms_norm(x)), poison)

    def _poisoned(self, name: str, y: torch.Tensor, poison: Mapping[str, str] | None) -> torch.Tensor:
        """y, whose gradient gets a value that is not finite if the poison is for this module."""
        if poison is None or poison["where"] != name:
            return y

        def spoil(gradient: torch.Tensor) -> torch.Tensor:
            spoiled = gradient.clone()
            spoiled.view(-1)[-1] = POISONS[poison["value"]]
            return spoiled

        y.register_hook(spoil)
        return y

    def tensors(self) -> dict[str, torch.Tensor]:
        """All state by name, as it is: buffers and the integers of every module."""
        return dict(self.state_dict())


class World:
    """The library with a model: what a user's run does in each step."""

    def __init__(self, of: Configuration, backend: str, other: str, device: str) -> None:
        self.of, self.device = of, device
        self.backends = [backend, other]
        self.model = SmallModel(of, backend).to(device)
        self._folder = tempfile.TemporaryDirectory(prefix="arbitor-")

    def close(self) -> None:
        """Remove the checkpoint."""
        self._folder.cleanup()

    def do(self, step: Step) -> Done:
        """One step. Raises KeyError for one of another name or without a field, and what the library
        raises."""
        done: Done | None = getattr(self, {name: f"_{name}" for name in KINDS}[step["do"]])(step)
        return done or Done()

    def _train(self, step: Step) -> Done:
        losses = forward_and_backward(self.model, step, self.device)
        report = update_memory(
            self.model,
            loss_signal=signal_of(step, losses),
            gain=step["gain"],
            scale_gain=step["scale_gain"],
            loss_scale=2.0 ** step.get("told", 0),
        )
        counts = {name: tuple(counted.tolist()) for name, counted in report.counts_of.items()}
        return Done(losses, report.skipped is not None, counts)

    def _configure(self, step: Step) -> None:
        configure_ternary_training(self.model, **{name: v for name, v in step.items() if name != "do"})

    def _save(self, step: Step) -> None:
        modules = ternary_modules(self.model)
        columns = {f"{name}.codes": module.shape.columns for name, module in modules.items()}
        save_checkpoint(self._file(), self.model.state_dict(), self._settings(), 0, step["format"], columns)

    def _resume(self, step: Step) -> None:
        loaded = load_checkpoint(self._file())
        self._fresh(loaded.tensors, loaded.config)

    def _switch(self, step: Step) -> None:
        self.backends.reverse()
        self._fresh(self.model.state_dict(), self._settings())

    def _settings(self) -> dict[str, Any]:
        """Those of each module: rates are a module's own."""
        return {name: asdict(module.settings) for name, module in ternary_modules(self.model).items()}

    def _fresh(self, state: Mapping[str, torch.Tensor], settings: Mapping[str, Any]) -> None:
        """On with that state in a new model, whose own seed is another one."""
        seed = (self.of.seed + 1) % 2**64
        of = Configuration(**{**asdict(self.of), "seed": seed, "updates": 0})
        model = SmallModel(of, self.backends[0]).to(self.device)
        model.load_state_dict(state)
        for name, module in ternary_modules(model).items():
            configure_ternary_training(module, **settings[name])
        self.model = model

    def _file(self) -> Path:
        return Path(self._folder.name, "checkpoint.safetensors")


KINDS = ("train", "configure", "save", "resume", "switch")


def forward_and_backward(model: SmallModel, step: Step, device: str) -> tuple[torch.Tensor, ...]:
    """Every part of a training step: cross-entropy of the next token, the share of all the step's tokens."""
    total = sum(len(tokens) - 1 for tokens in step["parts"])
    losses = []
    for part in step["parts"]:
        tokens = torch.tensor(part, device=device)
        logits = model(tokens[:-1], step["uses"], step["poison"])
        loss: Any = F.cross_entropy(logits, tokens[1:], reduction="sum") / total * 2.0 ** step["scale"]
        loss.backward()
        losses.append(loss.detach())
    return tuple(losses)


def signal_of(step: Step, losses: tuple[torch.Tensor, ...]) -> torch.Tensor | float | None:
    """What a training step passes as loss_signal."""
    if step["signal"] == "loss":
        return torch.stack(losses).sum()
    return None if step["signal"] == "none" else POISONS[step["signal"]]


def captures_left(modules: Mapping[str, TernaryModule]) -> list[str]:
    """Modules in which a step has left captures, or some of a backward that failed (ARB-RUN-006)."""
    return [name for name, module in modules.items() if module.captures or module.passes]
