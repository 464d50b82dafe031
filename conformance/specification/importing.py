"""What every file of ours imports, read off its syntax tree, so an import inside a function counts too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("reference", "kernels", "conformance", "training")  # imported as parts of arbitor
DYNAMIC = ("import_module", "importorskip")


def imported(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """Line and full name of every module that a file imports; relative ones from its place."""
    here = (("arbitor",) if path.parts[0] in SHIPPED else ()) + path.with_suffix("").parts
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [*here[: len(here) - node.level]] if node.level else []
            base += node.module.split(".") if node.module else []
            for alias in node.names:  # `from arbitor import kernels` imports kernels
                yield node.lineno, ".".join([*base, alias.name])
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in DYNAMIC:
            yield from ((node.lineno, str(arg.value)) for arg in node.args if isinstance(arg, ast.Constant))


def files() -> list[Path]:
    return sorted(
        path.relative_to(ROOT)
        for top in ("reference", "kernels", "arbitor", "conformance", "training")
        for path in (ROOT / top).rglob("*.py")
    )


def module_of(path: Path) -> str:
    """The name under which a file below the root is imported."""
    parts = (("arbitor",) if path.parts[0] in SHIPPED else ()) + path.with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")
