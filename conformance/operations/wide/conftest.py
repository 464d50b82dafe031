"""One test here at a time on a GPU, whatever the workers: each takes a good part of its memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from arbitor.conformance.judge.target import Target


@pytest.fixture(autouse=True)
def _memory_of_the_device(target: Target) -> Iterator[None]:
    if target.device == "cpu":
        yield
        return
    with FileLock(Path(tempfile.gettempdir(), "arbitor-gpu-memory.lock")):
        yield
        torch.cuda.empty_cache()
