"""Checkpoints to sample from, and what a sample has to be: shared by the tests of `arbitor sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from arbitor.checkpoint import save_checkpoint
from arbitor.cli import main
from arbitor.conformance.judge.target import Target
from arbitor.conformance.machine.models import model_of
from arbitor.main import ARBModel
from arbitor.sample import BYTES

OPTIONS: dict[str, Any] = {
    "d_model": 16, "layers": 2, "heads": 2, "window": None, "group_size": 12, "seed": 3,
    "ctx": 8, "preserve_state": False, "baseline": None,
}  # fmt: skip


def model(target: Target, window: int | None = None) -> ARBModel:
    """Of OPTIONS but for its seed: what a file holds is not what its seed would give."""
    names = ("d_model", "layers", "heads", "group_size")
    return model_of(target, mlp_ratio=4, window=window, seed=2, **{name: OPTIONS[name] for name in names})


def saved(path: Path, target: Target, window: int | None = None, **options: Any) -> Path:
    config = {"options": OPTIONS | {"window": window} | options}
    save_checkpoint(path, model(target, window).state_dict(), config, 4)
    return path


def greedy(found: ARBModel, prompt: bytes, count: int) -> list[int]:
    """By one full forward over the whole text for every byte."""
    text = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            tokens = torch.tensor([text], device=next(found.buffers()).device)
            text.append(int(found(tokens)[0, -1, :BYTES].argmax()))
    return text[len(prompt) :]


def run(target: Target, path: Path, *words: str) -> int:
    where = ["--backend", target.backend.name, "--device", target.device]
    return main(["sample", str(path), *where, *words])
