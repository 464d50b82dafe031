"""Runs of a trainer by its command line, in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arbitor.conformance.training.launch import START
from arbitor.conformance.training.trainers import CHECKPOINT as CHECKPOINT

FLAGS = (
    "--d-model 16 --heads 2 --layers 1 --batch 2 --ctx 8 --eval-batches 1 --threads 1 --log-interval 2 "
    "--save-interval 2 --steps 6 --backend torch --device cpu"
)


class Started:
    """Runs on one text, by their command line."""

    def __init__(
        self,
        folder: Path,
        capsys: pytest.CaptureFixture[str],
        main: Callable[..., int],
        read_lines: Callable[[Path], Any],
    ) -> None:
        """`main` of a command of text and `read_lines` of training.run_folder."""
        self._main, self.read_lines = main, read_lines
        self.folder, self.runs, self._capsys = folder, folder / "runs", capsys
        self.text = folder / "text.txt"
        self.text.write_text("a disk is full, a folder is taken; " * 40)

    def words(self, *flags: str) -> list[str]:
        where = ["--data", str(self.text), "--runs", str(self.runs), "--run", "run"]
        return [*FLAGS.split(), *where, *flags]

    def __call__(self, *flags: str) -> int:
        try:
            return self._main(self.words(*flags))
        except SystemExit as ended:
            return int(ended.code or 0)

    def refused(self, status: int, *flags: str) -> str:
        """The one sentence that a run with these flags ends in, with that status."""
        self._capsys.readouterr()
        assert self(*flags) == status
        out, err = self._capsys.readouterr()
        assert out == ""
        said = [line for line in err.splitlines() if line.startswith("error: ")]
        assert len(said) == 1, err
        assert err.endswith(f"{said[0]}\n"), "it is the last line"
        assert "Traceback" not in err
        return said[0]

    def path(self, file: str = CHECKPOINT, name: str = "run") -> Path:
        return self.runs / name / file

    def contents(self) -> dict[str, bytes]:
        """Of every file below the folder but the locks."""
        found = [path for path in self.folder.rglob("*") if path.is_file() and ".locks" not in path.parts]
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in found}

    def process(self, *flags: str) -> subprocess.Popen[str]:
        """The same in a process of its own."""
        words = [sys.executable, "-m", "arbitor.training.pretrain", *self.words(*flags)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(words, cwd=START, env=environment, stderr=subprocess.PIPE, text=True)

    def wait_for(self, there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + 120
        while not there():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)


def spy_on_steps(patch: pytest.MonkeyPatch, trainer_class: Any) -> list[int]:
    steps: list[int] = []
    honest = trainer_class._step

    def step(trainer: Any) -> None:
        honest(trainer)
        steps.append(trainer.done)

    patch.setattr(trainer_class, "_step", step)
    return steps


def lines(started: Started, name: str) -> list[dict[str, Any]]:
    found = started.read_lines(started.path("metrics.jsonl", name))
    return [{key: value for key, value in line.items() if key != "items_per_s"} for line in found]


def leftovers(started: Started) -> list[Path]:
    return [*started.runs.rglob("*.tmp")]
