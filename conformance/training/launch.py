"""Start a trainer as its user does, from the command line, and read what it reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import arbitor
from arbitor.conformance.training.bands import Run

# the root of a checkout, or where a wheel is installed: `python -m arbitor.training` finds it from there
START = Path(arbitor.__file__).resolve().parents[1]


class RunFailed(RuntimeError):
    """A trainer that ended with another status than 0; the message has the end of what it printed."""


def command(run: Run, *extra: str) -> list[str]:
    """The command line of `run`, as a module; later flags win."""
    module = "arbitor." + run.script.removesuffix(".py").replace("/", ".")
    return [sys.executable, "-m", module, *run.arguments, *extra]


def launch(
    run: Run, *extra: str, timeout: float = 600, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run it to its end, with `environment` beside the process's own -> its report.

    Raises RunFailed if it fails, hangs or reports nothing.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        words = command(run, *extra, "--report", str(path))
        shown = " ".join(["python", *words[1:-2]])
        try:
            ended = subprocess.run(
                words,
                cwd=START,
                env=os.environ | dict(environment or {}),
                capture_output=True,
                text=True,
                check=False,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            raise RunFailed(f"{shown}: not at its end after {timeout:.0f} s") from None
        if ended.returncode or not path.is_file():
            said = " / ".join((ended.stderr or ended.stdout).strip().splitlines()[-3:])
            raise RunFailed(f"{shown}: exit status {ended.returncode}: {said}")
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return report
