"""Hooks of mkdocs (mkdocs.yml): the layout that the API pages read, and how tables of Markdown differ.

Static analysis does not see that arbitor/__init__.py makes kernels/ and its neighbours parts of `arbitor`, so
a temporary folder of links has them there, as in the wheel. scripts/types.sh does the same, with a copy.
"""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority

ROOT = Path(__file__).resolve().parents[1]
LAYOUT = TemporaryDirectory(prefix="arbitor-docs-")


def link(source: Path, folder: Path) -> None:
    """Make the folder, with a link to each thing that the source has."""
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).symlink_to(path)


@event_priority(100)  # before mkdocstrings reads its options
def on_config(config: MkDocsConfig) -> None:
    """Make the links, and name their folder as the place where mkdocstrings finds packages."""
    package = Path(LAYOUT.name, "arbitor")
    link(ROOT / "arbitor", package)
    for part in ("kernels", "reference", "conformance"):
        link(ROOT / part, package / part)
    (package / "kernels" / "__init__.py").touch()  # griffe passes over a folder that has none
    config.plugins["mkdocstrings"].config["handlers"]["python"]["paths"] = [LAYOUT.name]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """`\\|` in code in a table is a bar on GitHub; Python-Markdown would show the backslash too."""
    rows = re.compile(r"^\|.*$", flags=re.MULTILINE)
    return rows.sub(
        lambda row: re.sub(r"`[^`]*`", lambda code: code[0].replace(r"\|", "|"), row[0]), markdown
    )


def on_shutdown() -> None:
    """Remove the links."""
    LAYOUT.cleanup()
