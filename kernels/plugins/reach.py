"""What a stranger's process may reach: its environment, and the folders that are closed to it (keeper.py)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]  # the checkout's root, or the installed package
OUT_OF_REACH = "ARB_OUT_OF_REACH"  # folders that a run of the suite keeps its own notes in
EXAMPLES = ("__init__.py", "__pycache__", "cheats")  # what may be read of the suite: strangers' code in it


def environment(folder: str) -> dict[str, str]:
    """This process' environment, with `folder` for temporary files and nothing that tells of a test."""
    hidden = ("PYTEST", "COV_", OUT_OF_REACH)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return kept | {"TMPDIR": folder}


def protected() -> dict[str, list[str]]:
    """Folders that it can neither read nor write, and folders that it can only read."""
    suite = HERE / "conformance"
    none = [HERE / "reference", *(path for path in suite.iterdir() if path.name not in EXAMPLES)]
    read = [suite, HERE / "kernels", HERE / "arbitor", HERE / "pyproject.toml"]
    if not (HERE / "pyproject.toml").is_file():
        read.append(HERE)  # the package as it is installed
    read += [Path(prefix) for prefix in (sys.prefix, sys.base_prefix)]
    notes = [Path(folder) for folder in os.environ.get(OUT_OF_REACH, "").split(os.pathsep) if folder]
    return {
        "none": [str(path.resolve()) for path in (*none, *notes)],
        "read": [str(path.resolve()) for path in read if path.exists()],
    }
