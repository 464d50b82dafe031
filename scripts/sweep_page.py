"""What the pages that are made from sweeps share: how the numbers came to be, and the words of a reader.

A page is FILE.md beside FILE.json; a record in a folder `records` has its page and picture in the folder
above. What a page has from the line "## What it says" on was written by a reader and is kept when it is made
again.
"""

from __future__ import annotations

import argparse
import json
import re
import textwrap
from pathlib import Path
from typing import Any

from arbitor.bench.picture import png_of

WORDS = "## What it says"
WIDTH = 100  # of a line of prose
ONCE = re.compile(r"docs/results/(?=[\w.]+\.json)")  # where plans and records were before they had a folder


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
    """A sentence with the command, its paths those of today, the commit, the versions and the device. Of
    before records said so, the specification was version 1."""
    made = result["environment"]
    command = ONCE.sub("docs/results/records/", made["command"])
    versions = f"Python {made['python']}, torch {made['torch']}, {made['device']}"
    specification = f"specification {made.get('specification', 1)}"
    return f"Made by: `{command}`; {specification}, commit {made['commit']}; {versions}."


def all_runs(result: dict[str, Any], flags: list[str]) -> str:
    """The beginning of a sentence: the command that all runs share."""
    return f"All runs: `python -m training.{result.get('trainer', 'pretrain')} {' '.join(flags)}`,"


def shown_at(sweep: Path, suffix: str) -> Path:
    """Where the page (.md) or the picture (.png) of a record is."""
    folder = sweep.parent.parent if sweep.parent.name == "records" else sweep.parent
    return folder / f"{sweep.stem}{suffix}"


def folded(line: str) -> list[str]:
    """A paragraph or an item as lines of WIDTH at most; tables, headings and pictures stay as they are."""
    if len(line) <= WIDTH or line.startswith(("|", "#", "![")):
        return [line]
    inside = "  " if line.startswith("- ") else ""
    return textwrap.wrap(
        line, WIDTH, subsequent_indent=inside, break_long_words=False, break_on_hyphens=False
    )


def write_page(sweep: Path, lines: list[str]) -> None:
    """Write the page of a sweep, with the reader's words of the old one at its end; a line is a paragraph."""
    page = shown_at(sweep, ".md")
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    words = "\n" + old[old.index(WORDS) :] if WORDS in old else ""
    prose = [short for line in lines for short in folded(line)]
    page.write_text("\n".join([*prose, ""]) + words, encoding="utf-8")


def save_picture(sweep: Path, figure: Any, dpi: int) -> None:
    """Write the picture of a sweep."""
    shown_at(sweep, ".png").write_bytes(png_of(figure, dpi))
