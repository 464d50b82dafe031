"""Text that others wrote, without commands to the terminal."""

from __future__ import annotations

import unicodedata
from typing import Any

# controls, marks of writing direction, what stands for no character, separators of lines and paragraphs; what
# joins the letters and pictures of one character stays
_COMMANDS = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"


def plain(text: object, keep: str = "", instead: str | None = None) -> str:
    """`text` with everything written out that a terminal would take for a command: escapes, marks that turn
    the direction of writing, lone surrogates, and newlines unless `keep` has them.

    The one place for it: whatever a file, a checkpoint, an artifact, a report or a backend says goes through
    here before it is printed. `instead` stands for each such character.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(_written_out(c, instead) if _is_command(c) and c not in keep else c for c in text)


def _is_command(c: str) -> bool:
    return unicodedata.category(c) in _COMMANDS and c not in _JOINERS


def _written_out(c: str, instead: str | None) -> str:
    return c.encode("unicode_escape").decode() if instead is None else instead


def lines(text: object) -> str:
    """`plain` text of several lines, with tabs."""
    return plain(text, keep="\n\t")


def all_lines(value: Any) -> Any:
    """`lines` of every text in a value of JSON."""
    if isinstance(value, str):
        return lines(value)
    if isinstance(value, list):
        return [all_lines(item) for item in value]
    if isinstance(value, dict):
        return {lines(key): all_lines(item) for key, item in value.items()}
    return value
