"""The catalogue of mutants: its format, and how it is read.

One TOML file a set, `[[mutant]]` tables in it. An entry that does not fit is refused, with the first thing
that is wrong: a mutant whose text is no longer in the source must not look like one that was killed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arbitor.kernels import reading
from arbitor.kernels.reading import Unreadable, said

SETS = ("triton", "tilelang", "torch", "reference", "runtime", "training")
AROUND = ("runtime", "training")  # of what stands around the kernels, judged on torch
GENERAL = "general"  # the set that is made and not written (general.py)
REQUIRED = ("id", "kind", "file", "old", "new", "clause", "why")
OPTIONAL = ("defect", "needs", "equivalent", "explained")
CPU, CUDA = "cpu", "cuda"


class CatalogueRefused(ValueError):
    """Why a catalogue of mutants is not used, in one sentence."""


@dataclass(frozen=True)
class Mutant:
    """One edit: `old`, which occurs once in `file`, becomes `new`, and that breaks `clause`.

    `needs` is "cpu" or "cuda" where no other device runs the changed code; `equivalent` says why no input can
    show it, `explained` why it survives all the same; `defect` is the public bug that it makes again.
    """

    id: str
    kind: str
    file: str
    old: str
    new: str
    clause: str
    why: str
    defect: str = ""
    needs: str = ""
    equivalent: str = ""
    explained: str = ""

    @property
    def set(self) -> str:
        """The set that it belongs to: the first word of its id."""
        return self.id.partition(".")[0]

    @property
    def digest(self) -> str:
        """SHA-256 of what is run: a result belongs to this edit and this clause, whatever else is said."""
        text = json.dumps([self.file, self.old, self.new, self.clause])
        return hashlib.sha256(text.encode()).hexdigest()

    def lacks(self, device: str) -> str:
        """Why it cannot run on that device, or ""."""
        return f"only on {self.needs} what it changes is run" if self.needs not in ("", device) else ""

    def applied(self, text: str) -> str:
        """The source with the edit; raises CatalogueRefused unless `old` occurs exactly once."""
        found = text.count(self.old)
        if found != 1:
            raise CatalogueRefused(f"{self.id}: its text occurs {found} times in {self.file}, expected once")
        return text.replace(self.old, self.new)


def load(folder: Path, root: Path, sets: Sequence[str] = SETS) -> list[Mutant]:
    """All mutants of those sets in the order of the files, their texts found in the sources below `root`.

    Raises CatalogueRefused for a file that is missing or no TOML, an entry that does not fit, an id that is
    there twice, and an edit whose text is not in its file exactly once.
    """
    mutants: dict[str, Mutant] = {}
    for name in sets:
        for entry in _entries(folder / f"{name}.toml"):
            mutant = _mutant(entry, name)
            if mutant.id in mutants:
                raise CatalogueRefused(f"{mutant.id} is there twice")
            mutants[mutant.id] = mutant
    texts: dict[str, str] = {}
    for mutant in mutants.values():
        if mutant.file not in texts:
            texts[mutant.file] = _source(root / mutant.file, mutant.id)
        mutant.applied(texts[mutant.file])
    return list(mutants.values())


def _entries(path: Path) -> list[Mapping[str, Any]]:
    try:
        found = reading.toml_of(reading.file_bytes(path, reading.MEGABYTE))
    except OSError as error:
        raise CatalogueRefused(f"{path}: {error.strerror or error}") from None
    except Unreadable as error:
        raise CatalogueRefused(f"{path}: {error}") from None
    entries = found.get("mutant")
    tables = isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)
    if set(found) != {"mutant"} or not isinstance(entries, list) or not entries or not tables:
        raise CatalogueRefused(f"{path}: expected a list of [[mutant]] tables and nothing else")
    return entries


def _mutant(entry: Mapping[str, Any], name: str) -> Mutant:
    where = f"{name}.toml: {said(entry['id']) if 'id' in entry else 'an entry without id'}"
    for key in REQUIRED:
        if key not in entry or (not entry[key] and key != "new"):
            raise CatalogueRefused(f"{where} has no {key!r}")
    for key, value in entry.items():
        if key not in (*REQUIRED, *OPTIONAL):
            raise CatalogueRefused(
                f"{where}: unknown key {said(key)}, expected {', '.join(REQUIRED + OPTIONAL)}"
            )
        if not isinstance(value, str):
            raise CatalogueRefused(f"{where}: {key} is {said(value)}, expected text")
    mutant = Mutant(**entry)
    if mutant.set != name:
        raise CatalogueRefused(f"{where}: its id must begin with {name}.")
    if mutant.needs not in ("", CPU, CUDA):
        raise CatalogueRefused(f"{where}: needs is {said(mutant.needs)}, expected {CPU!r} or {CUDA!r}")
    if mutant.old == mutant.new:
        raise CatalogueRefused(f"{where}: old and new are the same")
    if mutant.equivalent and mutant.explained:
        raise CatalogueRefused(f"{where} is equivalent, so there is no survival to explain")
    return mutant


def _source(path: Path, id: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CatalogueRefused(f"{id}: {path}: {error.strerror or error}") from None
