"""Audits of small runs, and records that were changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arbitor.cli import main
from arbitor.conformance.training.started import Started

RECORD, CONFIG = "digests.jsonl", "config.json"
KEPT = ("--keep-interval", "2")
CHECKPOINT = "checkpoints/step-00000004.safetensors"


def audited(
    started: Started, capsys: pytest.CaptureFixture[str], *words: str, run: str = "run"
) -> tuple[int, str]:
    """Exit status and output of an audit of that run."""
    capsys.readouterr()
    where = ("--backend", "torch") if "--backend" not in words else ()
    threads = ("--threads", "1") if "--threads" not in words else ()
    status = main(["audit", str(started.runs / run), "--device", "cpu", *threads, *where, *words])
    out, err = capsys.readouterr()
    return status, out + err


def without(path: Path) -> None:
    path.unlink()


def lines_changed(change: Callable[[list[dict[str, Any]]], None]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        found = [json.loads(line) for line in path.read_text().splitlines()]
        change(found)
        path.write_text("".join(f"{json.dumps(line)}\n" for line in found))

    return apply
