"""Mutants that nobody thought of: cosmic-ray's operators on every line of the reference.

They break no named clause, so the whole lane has to kill them. What lives and may is in
conformance/mutants/general.toml, by the line before and after:

    [[survivor]]
    file = "reference/linear/weights.py"
    old = "if exponent > 26:"
    new = "if exponent >= 26:"
    equivalent = "why no input can show it"        # or explained = "why it lives all the same"
"""

from __future__ import annotations

import ast
import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from arbitor.refusal import lacking

from .catalogue import GENERAL, CatalogueRefused, Mutant

# one replacement of each binary operator; the others of cosmic-ray's ten differ in no way that matters here
BINARY = (
    "Add_Sub", "Sub_Add", "Mul_Add", "FloorDiv_Mul", "Mod_FloorDiv", "Pow_Mul", "LShift_RShift",
    "RShift_LShift", "BitAnd_BitOr", "BitOr_BitAnd", "BitXor_BitOr",
)  # fmt: skip
OTHERS = (
    "NumberReplacer", "AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr",
    "ReplaceOrWithAnd", "ZeroIterationForLoop", "ReplaceBreakWithContinue", "ReplaceContinueWithBreak",
)  # fmt: skip
FAMILIES = ("ReplaceComparisonOperator_", "ReplaceUnaryOperator_Delete_")


@dataclass(frozen=True)
class Rewritten(Mutant):
    """A mutant whose file was rewritten: `new` is its whole text, `line` the changed line, old and new."""

    line: tuple[str, str] = ("", "")

    def applied(self, text: str) -> str:
        """The source with the edit."""
        return self.new


def mutants(root: Path, folder: Path) -> list[Mutant]:
    """Every mutant of the operators above in `root`/reference, with what `folder`/general.toml says of it.

    Raises CatalogueRefused without cosmic-ray, and for an entry of general.toml that is of no mutant.
    """
    said = _said(folder / f"{GENERAL}.toml")
    found: list[Mutant] = []
    for path in sorted((root / "reference").rglob("*.py")):
        for mutant in _of_file(path, path.relative_to(root).as_posix()):
            word = said.pop((mutant.file, *mutant.line), {})
            why = {name: word.get(name, "") for name in ("equivalent", "explained")}
            found.append(replace(mutant, equivalent=why["equivalent"], explained=why["explained"]))
    if said:
        raise CatalogueRefused(f"{GENERAL}.toml: no mutant is {next(iter(said))}")
    return found


def _of_file(path: Path, file: str) -> Iterator[Rewritten]:
    try:
        from cosmic_ray.mutating import mutate_code
        from cosmic_ray.plugins import get_operator, operator_names
    except ModuleNotFoundError as error:
        raise CatalogueRefused(lacking(error, "this", "mutants")) from None
    text = path.read_text(encoding="utf-8")
    seen = {_without_annotations(text)}
    for name in sorted(operator_names()):
        short = name.removeprefix("core/")
        if not _wanted(short):
            continue
        number = 0
        while (new := mutate_code(text, get_operator(name)(), number)) is not None:
            meaning = _without_annotations(new)
            if meaning not in seen:
                seen.add(meaning)
                yield _rewritten(file, f"{short}.{number}", text, new)
            number += 1


def _without_annotations(text: str) -> str:
    """The program without what only a type checker reads."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign):
            node.annotation = ast.Constant(None)
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
    return ast.dump(tree)


def _wanted(operator: str) -> bool:
    binary = operator.removeprefix("ReplaceBinaryOperator_")
    return binary in BINARY or operator in OTHERS or operator.startswith(FAMILIES)


def _rewritten(file: str, what: str, text: str, new: str) -> Rewritten:
    changed = [
        line[2:].strip()
        for line in difflib.ndiff(text.splitlines(), new.splitlines())
        if line[:2] in ("- ", "+ ")
    ]
    line = (changed[0], changed[-1])
    why = f"{line[0]}  ->  {line[1]}"
    id = f"{GENERAL}.{Path(file).stem}.{what}"
    return Rewritten(id, what.partition(".")[0], file, "", new, "", why, line=line)


def _said(path: Path) -> dict[tuple[str, str, str], Mapping[str, str]]:
    """What general.toml says, by file, line before and line after."""
    try:
        entries: list[dict[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8"))["survivor"]
        return {
            (entry.pop("file"), entry.pop("old"), entry.pop("new")): entry
            for entry in entries
            if set(entry) - {"file", "old", "new"} in ({"equivalent"}, {"explained"})
        }
    except OSError as error:
        raise CatalogueRefused(f"{path}: {error.strerror or error}") from None
    except (ValueError, KeyError) as error:
        raise CatalogueRefused(f"{path}: {error}, expected [[survivor]] tables") from None
