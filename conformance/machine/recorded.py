"""A run of training steps that comes from a file: bounded, and something that `World` can do, or refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arbitor.kernels.reading import schema_fault


def run_fault(configuration: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> str | None:
    """Why these steps cannot be done on a model of that configuration, in words, or None (run.json)."""
    schema = json.loads(Path(__file__).with_name("run.json").read_text(encoding="utf-8"))
    fault = schema_fault({"configuration": configuration, "steps": steps}, schema)
    if fault is not None:
        return fault
    saved = False
    for number, step in enumerate(steps, 1):
        saved = saved or step["do"] == "save"
        if step["do"] == "resume" and not saved:
            return f"step {number} resumes, and nothing was saved before it"
        largest = max((token for part in step.get("parts", ()) for token in part), default=0)
        if largest >= configuration["vocabulary"]:
            return f"step {number} has token {largest}, the vocabulary is {configuration['vocabulary']}"
    return None
