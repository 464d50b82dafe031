"""What the pages that are made from sweeps share: how the numbers came to be, and the words of a reader.

A page is FILE.md beside FILE.json. What it has from the line "## What it says" on was written by a reader and
is kept when the page is made again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

WORDS = "## What it says"


def arguments_of(description: str) -> argparse.ArgumentParser:
    """A parser of the sweep's file and the page's title."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--title", required=True)
    return parser


def result_of(sweep: Path) -> dict[str, Any]:
    """The JSON of a sweep."""
    found: dict[str, Any] = json.loads(sweep.read_text(encoding="utf-8"))
    return found


def unit_of(rows: dict[str, dict[str, Any]]) -> str:
    """Of the losses; results from before other data than text do not say."""
    return next((str(row["unit"]) for row in rows.values() if "unit" in row), "nats a byte")


def made_by(result: dict[str, Any]) -> str:
    """A sentence with the command, the commit, the versions and the device."""
    made = result["environment"]
    versions = f"Python {made['python']}, torch {made['torch']}, {made['device']}"
    return f"Made by: `{made['command']}`; commit {made['commit']}; {versions}."


def all_runs(result: dict[str, Any], flags: list[str]) -> str:
    """The beginning of a sentence: the command that all runs share."""
    return f"All runs: `python -m training.{result.get('trainer', 'pretrain')} {' '.join(flags)}`,"


def write_page(sweep: Path, lines: list[str]) -> None:
    """Write the page of a sweep, with the reader's words of the old one at its end."""
    page = sweep.with_suffix(".md")
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    words = "\n" + old[old.index(WORDS) :] if WORDS in old else ""
    page.write_text("\n".join([*lines, ""]) + words, encoding="utf-8")
