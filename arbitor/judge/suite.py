"""Where the conformance suite is, and commands whose work is its: found and started, never imported by name,
because nothing here may depend on what depends on it."""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arbitor.kernels.operations import FAMILIES, OPERATIONS

from .. import __path__ as parts
from ..refusal import lacking, refuse


def find_suite() -> Path:
    """The folder of the conformance suite: beside the package in a checkout, inside it when installed."""
    for part in parts:
        folder = Path(part, "conformance")
        if (folder / "conftest.py").is_file():
            return folder
    raise RuntimeError(f"the conformance suite is not below {' or '.join(parts)}")


def digests(suite: Path) -> dict[str, str]:
    """SHA-256 of every Python file of the suite and of what it judges with, by its name."""
    root = suite.parent  # in a wheel it is the package itself
    names = ("conformance", "reference", "kernels", "arbitor", "training")
    folders = [root] if root.name == "arbitor" else [root / name for name in names]
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        for path in sorted(folder.rglob("*.py"))
    }


def find_test(subject: str) -> Path:
    """The test file of an operation or another subject, in whichever room of the suite it is."""
    found = list(find_suite().rglob(f"test_{subject}.py"))
    if len(found) != 1:
        raise RuntimeError(f"the suite has {len(found)} files test_{subject}.py, expected one")
    return found[0]


def operations_named(words: Sequence[str]) -> list[str]:
    """Operations by their names or those of their families, several in one word with commas between them.

    Raises ValueError for a name that is none.
    """
    known = [*OPERATIONS, *FAMILIES]
    found: set[str] = set()
    for name in [name.strip() for word in words for name in word.split(",")]:
        if name not in known:
            raise ValueError(f"--only {name}: expected {', '.join(known)}")
        found.update(FAMILIES.get(name, name).split())
    return [operation for operation in OPERATIONS if operation in found]


def replay(file: Path, backend: str | None, device: str | None) -> int:
    """Repeat the case of an artifact. 0: the same as the judge's answer; 1: it differs; 2: one sentence."""
    return _run("replay", file, backend, device)


def fuzz(
    backend: str,
    device: str,
    seconds: float | None,
    only: Sequence[str] = (),
    seed: int | None = None,
    declared: Path | None = None,
) -> int:
    """Random cases until one fails (1), the time is over (0) or Ctrl-C (130); 2: one sentence."""
    return _run("fuzz", backend, device, seconds, only, seed, declared)


def _run(module: str, *arguments: Any) -> int:
    try:
        find_suite()
        found = importlib.import_module(f"arbitor.conformance.tools.fuzzing.{module}")
    except RuntimeError as error:
        return refuse(str(error))
    except ModuleNotFoundError as error:
        return refuse(lacking(error, "the suite", "test"))
    status: int = found.main(*arguments)
    return status


def interpret(backend: str, device: str) -> None:
    """Triton has nothing but its interpreter on the CPU; it reads this when its kernels are imported."""
    if (backend, device) == ("triton", "cpu"):
        os.environ.setdefault("TRITON_INTERPRET", "1")
