"""The trainers as the suite sees them: files of training/ and its finetuning/, run in this process or in
another.

Nothing of training/ is imported here: only test files may.
"""

from __future__ import annotations

import atexit
import functools
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from arbitor.checkpoint import save_checkpoint
from arbitor.conformance.judge.target import Target
from arbitor.conformance.training.launch import START
from arbitor.main import ARBConfig, ARBModel

FOLDER = Path(__file__).resolve().parents[2] / "training"
NO_TRAINERS = {"smoke.py"}  # has a command line and another purpose
SIZE = "--d-model 16 --heads 2 --layers 1 --batch 2 --threads 1"
TINY = ["--steps", "3", "--eval-batches", "1", "--log-interval", "1"]
CHECKPOINT = "checkpoint.safetensors"
FINETUNING = "finetuning/"
# trainers of other data than text, and the flags of a small run on it
DATA = {
    f"{place}{name}.py": flags
    for name, flags in {"audio": ["--ctx", "8"], "vision": [], "diffusion": ["--times", "4"]}.items()
    for place in ("", FINETUNING)
}


def trainers() -> list[str]:
    """Files of training/ that can be run, by their path below it: a new trainer is found by itself."""
    found = [path for place in ("*.py", "finetuning/*.py") for path in FOLDER.glob(place)]
    runnable = {path for path in found if "__main__" in path.read_text(encoding="utf-8")}
    return sorted({path.relative_to(FOLDER).as_posix() for path in runnable} - NO_TRAINERS)


def text_trainers() -> list[str]:
    """Those that learn from text."""
    return [name for name in trainers() if name not in DATA]


def module_of(trainer: str) -> str:
    """Its name behind `python -m`, in a checkout also without "arbitor."."""
    return "arbitor.training." + trainer.removesuffix(".py").replace("/", ".")


def finetunes(trainer: str) -> bool:
    """Whether it starts from a checkpoint."""
    return trainer.startswith(FINETUNING)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in the checkout's root, as a user calls it, or where a wheel is installed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["OMP_NUM_THREADS"] = "1"  # two processes on two cores wait for each other's threads
    return subprocess.run(
        [sys.executable, *arguments], cwd=START, env=environment, capture_output=True, text=True, timeout=300
    )


class Runs:
    """Small runs below one folder, on one text or on the default data, on the backend under test."""

    def __init__(self, target: Target, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder / "runs", monkeypatch
        self.text = folder / "text.txt"
        self.text.write_text("ternary weights, integer votes; " * 40)
        self._where = ["--backend", target.backend.name, "--device", target.device]
        self.init = initial_checkpoint(target)

    def flags(self, trainer: str, resumed: bool = False) -> list[str]:
        """What a small run of a trainer is called with; one that is resumed has no --init."""
        if Path(trainer).stem in ("vision", "diffusion"):
            pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
        found = [*self._where, "--runs", str(self.folder), *SIZE.split(), *TINY]
        found += DATA.get(trainer, ["--ctx", "8", "--text-data", str(self.text)])
        if finetunes(trainer) and not resumed:
            found += ["--init", str(self.init)]
        return found

    def __call__(self, trainer: str, *flags: str) -> int:
        """The exit status of a trainer's file, run in this process with further flags."""
        return self.bare(trainer, *self.flags(trainer, resumed="--resume" in flags), *flags)

    def bare(self, trainer: str, *flags: str) -> int:
        """The same with these flags alone."""
        return self._run(trainer, flags, lambda: runpy.run_path(str(FOLDER / trainer), run_name="__main__"))

    def as_module(self, trainer: str) -> int:
        """The same as `python -m`."""
        name = module_of(trainer)
        with self._patch.context() as patch:  # what another trainer imported is run anew
            patch.delitem(sys.modules, name, raising=False)
            return self._run(
                trainer, self.flags(trainer), lambda: runpy.run_module(name, run_name="__main__")
            )

    def _run(self, trainer: str, flags: Sequence[str], run: Callable[[], object]) -> int:
        with self._patch.context() as patch:
            patch.setattr(sys, "path", list(sys.path))  # a trainer puts the root there
            patch.setattr(sys, "argv", [trainer, *flags])
            with pytest.raises(SystemExit) as left:
                run()
        return int(left.value.code or 0)

    def path(self, trainer: str, file: str) -> Path:
        """A file of the run that has the trainer's own name."""
        return self.folder / trainer.removesuffix(".py").replace("/", "-") / file


@functools.cache
def initial_checkpoint(target: Target) -> Path:
    """Of a small model of text as `Runs` has it, for what starts from one; made once a session."""
    config = ARBConfig(16, 1, 2, seed=5)
    model = ARBModel(config, backend=target.backend.name)
    options = {"d_model": 16, "layers": 1, "heads": 2, "baseline": None}
    folder = Path(tempfile.mkdtemp(prefix="arbitor-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    save_checkpoint(folder / CHECKPOINT, model.state_dict(), {"options": options}, 3)
    return folder / CHECKPOINT


@contextmanager
def threads_kept() -> Iterator[None]:
    """Trainers set the number of threads of the process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
