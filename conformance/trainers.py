"""The trainers as the suite sees them: files of training/ in the checkout, run in this process or in another.

Nothing of training/ is imported here: it does not ship, and only test files may.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from arbitor.conformance.target import Target

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "training"
NO_TRAINERS = {"corpus.py", "smoke.py"}  # have a command line and another purpose
SHAPE = "--d-model 16 --heads 2 --layers 1 --batch 2 --ctx 8 --threads 1"
TINY = [*SHAPE.split(), "--steps", "3", "--eval-batches", "1", "--log-interval", "1"]


def trainers() -> list[str]:
    """Files of training/ that can be run: a new trainer is found by itself."""
    runnable = {path.name for path in FOLDER.glob("*.py") if "__main__" in path.read_text(encoding="utf-8")}
    return sorted(runnable - NO_TRAINERS)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in the checkout's root, as a user calls it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["OMP_NUM_THREADS"] = "1"  # two processes on two cores wait for each other's threads
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


class Runs:
    """Small runs below one folder, on one text, on the backend under test."""

    def __init__(self, target: Target, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder / "runs", monkeypatch
        self.text = folder / "text.txt"
        self.text.write_text("ternary weights, integer votes; " * 40)
        where = ["--backend", target.backend.name, "--device", target.device]
        self.flags = [*where, "--runs", str(self.folder), "--text-data", str(self.text), *TINY]

    def __call__(self, trainer: str, *flags: str) -> int:
        """The exit status of a trainer's file, run in this process with further flags."""
        with self._patch.context() as patch:
            patch.setattr(sys, "path", list(sys.path))  # a trainer puts the root there
            patch.setattr(sys, "argv", [trainer, *self.flags, *flags])
            with pytest.raises(SystemExit) as left:
                runpy.run_path(str(FOLDER / trainer), run_name="__main__")
        return int(left.value.code or 0)

    def path(self, trainer: str, file: str) -> Path:
        """A file of the run that has the trainer's own name."""
        return self.folder / Path(trainer).stem / file


@contextmanager
def threads_kept() -> Iterator[None]:
    """Trainers set the number of threads of the process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
