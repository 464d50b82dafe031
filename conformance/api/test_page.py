"""docs/your-model.md is run, and so is its worked example, on one process and on two."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from arbitor.conformance.judge.target import Target

DOCS = Path(__file__).resolve().parents[2] / "docs"
GPT = DOCS / "examples" / "gpt" / "gpt.py"


@pytest.fixture(autouse=True)
def _one_lane(target: Target) -> None:
    if target.backend.name != "torch" or target.device != "cpu":
        pytest.skip("the page is run once, in the lane of torch on the CPU")
    if not DOCS.is_dir():
        pytest.skip("docs/ does not ship: this needs a checkout")


def test_the_page_is_true(one_thread: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Block after block, as a reader would."""
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "your-model.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 8
    space: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "your-model.md", "exec"), space)


def run(folder: Path, *words: str) -> tuple[dict[str, list[float]], list[str]]:
    """The curves, and the state hashes that were printed."""
    root = str(DOCS.parent)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    command = [*words, str(GPT), "--steps", "30", "--out", "curves.json"]
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    curves: dict[str, list[float]] = json.loads((folder / "curves.json").read_text())
    return curves, re.findall(r"ternary: [\d.]+, state (\w{64})", ended.stdout)


def test_the_example(tmp_path: Path) -> None:
    """It learns beside its twin; two processes end in one state."""
    curves, hashes = run(tmp_path, sys.executable)
    assert {name: len(curve) for name, curve in curves.items()} == {"float": 30, "ternary": 30}
    assert all(curve[-1] < curve[0] - 1.5 for curve in curves.values())
    assert len(hashes) == 1
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    _, both = run(tmp_path, *words)
    assert len(both) == 2
    assert both[0] == both[1]
