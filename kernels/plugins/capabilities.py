"""What a backend declares that it can do: a file, or the `capabilities` of a program's hello.

    version = 1
    operations = ["pack", "unpack", "linear_forward"]
    formats = ["codes"]                          # of packed trits: "codes" (4 a byte), "dense" (5 a byte)
    devices = ["cpu"]                            # "cpu", "cuda"
    [tiles.linear_forward]                       # extents around which sizes are tried
    O = 64
    [configurations]                             # all ways in which an operation may be run
    linear_forward = ["64x64", "128x64"]

The suite runs the tests of what is declared and counts the others as not run. Both directions are claims:
what is declared and does not work fails, and so does a gap that works
(conformance/operations/test_claims.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import reading
from ..operations import OPERATIONS
from ..reading import said

VERSION = 1
FORMATS = ("codes", "dense")
DEVICES = ("cpu", "cuda")
LARGEST_TILE = 512
MOST_WAYS = 1000  # of running one operation


@dataclass(frozen=True)
class Capabilities:
    """What is declared; everything that is not named is a declared gap.

    `configurations` is None where nothing is said of them.
    """

    operations: tuple[str, ...]
    formats: tuple[str, ...]
    devices: tuple[str, ...]
    tiles: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    configurations: Mapping[str, tuple[str, ...]] | None = None
    name: str = ""

    @property
    def gaps(self) -> tuple[str, ...]:
        """Operations that are not declared, in the order of the table."""
        return tuple(name for name in OPERATIONS if name not in self.operations)

    def as_record(self) -> dict[str, Any]:
        """For a report: the same words as in the file."""
        return {"version": VERSION, **asdict(self)}


def load(path: Path) -> Capabilities:
    """Read FILE.toml or FILE.json; raises ValueError with one sentence that names the file."""
    if path.suffix not in (".toml", ".json"):
        raise ValueError(f"{path}: capabilities are a .toml or a .json file")
    try:
        data = reading.file_bytes(path, reading.MEGABYTE)
        found = reading.toml_of(data) if path.suffix == ".toml" else reading.json_of(data)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    except reading.Unreadable as error:
        raise ValueError(f"{path} is no {path.suffix[1:].upper()}: {error}") from None
    return parse(found, str(path))


def product_tiles(product: tuple[int, int, int], update: tuple[int, int, int]) -> dict[str, dict[str, int]]:
    """The tiles of the operations that multiply, by the rows, columns and inner extent of one tile of a
    product and of one of `linear_update`."""
    return {
        "linear_forward": dict(zip("TOI", product, strict=True)),
        "input_gradient": dict(zip("TIO", product, strict=True)),
        "weight_gradient": dict(zip("OIT", product, strict=True)),
        "linear_update": dict(zip("OIT", update, strict=True)),
    }


def everything(name: str, tiles: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """The declaration of a backend of every operation, on CPU and CUDA, with those tiles."""
    return {
        "version": VERSION,
        "name": name,
        "operations": list(OPERATIONS),
        "formats": list(FORMATS),
        "devices": list(DEVICES),
        "tiles": tiles,
    }


def declared_by(module: ModuleType, name: str) -> Capabilities | None:
    """What the module of a backend of that name declares in `CAPABILITIES`, a path from its own folder or a
    mapping; None: nothing.

    A module that declares nothing claims everything. Raises ValueError for a declaration that is not valid.
    """
    found = getattr(module, "CAPABILITIES", None)
    if found is None:
        return None
    if isinstance(found, str | Path):
        return load(Path(getattr(module, "__file__", None) or "").parent / found)  # absolute of one elsewhere
    return parse(found, f"capabilities of {name}")


def parse(found: Any, where: str) -> Capabilities:
    """Check a declaration against the schema.

    Raises ValueError with the first thing that is wrong: its place, its value and what was expected.
    """
    table = _table(found, where)
    known = ("version", "name", "operations", "formats", "devices", "tiles", "configurations")
    for key in table:
        if key not in known:
            raise ValueError(f"{where}: unknown key {said(key)}, expected {', '.join(known)}")
    version = table.get("version")
    if isinstance(version, bool) or version != VERSION:
        raise ValueError(f"{where}: version is {said(version)}, expected {VERSION}")
    name = table.get("name", "")
    if not isinstance(name, str):
        raise ValueError(f"{where}: name is {said(name)}, expected a string")
    operations = _names(table, "operations", tuple(OPERATIONS), where)
    formats = _names(table, "formats", FORMATS, where)
    _agree(operations, formats, where)
    return Capabilities(
        operations,
        formats,
        _names(table, "devices", DEVICES, where),
        _tiles(table.get("tiles", {}), operations, f"{where}: tiles"),
        _configurations(table["configurations"], operations, f"{where}: configurations")
        if "configurations" in table
        else None,
        name,
    )


def format_of(operation: str) -> str | None:
    """The format of packed trits that an operation reads or writes, or None."""
    table = OPERATIONS[operation]
    names = {array.name for array in (*table.arrays, *table.results)}
    return next((name for name in FORMATS if name in names), None)


def _agree(operations: Sequence[str], formats: Sequence[str], where: str) -> None:
    """Formats are those of the declared operations, no more and no fewer."""
    for operation in operations:
        needed = format_of(operation)
        if needed is not None and needed not in formats:
            raise ValueError(f"{where}: formats lacks {needed!r}, which the operation {operation} uses")
    for name in formats:
        if name not in map(format_of, operations):
            raise ValueError(f"{where}: formats has {name!r}, but no declared operation uses it")


def _table(found: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(found, Mapping):
        raise ValueError(f"{where} is {said(found)}, expected a table")
    return found


def _names(table: Mapping[str, Any], key: str, allowed: Sequence[str], where: str) -> tuple[str, ...]:
    """A list without repetition of names that are allowed; empty only where formats are."""
    found = table.get(key)
    if not isinstance(found, Sequence) or isinstance(found, str) or (not found and key != "formats"):
        raise ValueError(f"{where}: {key} is {said(found)}, expected a list of {', '.join(allowed)}")
    for index, name in enumerate(found):
        if name not in allowed:
            raise ValueError(f"{where}: {key}[{index}] is {said(name)}, expected one of {', '.join(allowed)}")
        if name in found[:index]:
            raise ValueError(f"{where}: {key} has {name!r} twice")
    return tuple(found)


def _tiles(found: Any, operations: Sequence[str], where: str) -> dict[str, dict[str, int]]:
    tiles: dict[str, dict[str, int]] = {}
    for operation, sizes in _of_operations(found, operations, where).items():
        letters = _letters(operation)
        tiles[operation] = {}
        for letter, size in _table(sizes, f"{where}.{operation}").items():
            if letter not in letters:
                expected = ", ".join(letters)
                raise ValueError(f"{where}.{operation} has an extent {said(letter)}, expected {expected}")
            if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= LARGEST_TILE:
                raise ValueError(
                    f"{where}.{operation}.{letter} is {said(size)}, expected an integer in 1..{LARGEST_TILE}"
                )
            tiles[operation][letter] = size
    return tiles


def _letters(operation: str) -> list[str]:
    """Extents of the operation's arrays by their letters, as in the table of operations."""
    table = OPERATIONS[operation]
    axes = [axis for array in (*table.arrays, *table.results) for axis in array.axes]
    return list(dict.fromkeys(axis for axis in axes if len(axis) == 1 and axis.isupper()))


def _configurations(found: Any, operations: Sequence[str], where: str) -> dict[str, tuple[str, ...]]:
    ways: dict[str, tuple[str, ...]] = {}
    for operation, names in _of_operations(found, operations, where).items():
        if not isinstance(names, Sequence) or isinstance(names, str) or not 2 <= len(names) <= MOST_WAYS:
            expected = f"expected a list of two names or more, at most {MOST_WAYS}"
            raise ValueError(f"{where}.{operation} is {said(names)}, {expected}")
        for index, name in enumerate(names):
            if not isinstance(name, str) or not name or name in names[:index]:
                raise ValueError(f"{where}.{operation}[{index}] is {said(name)}, expected a name of its own")
        ways[operation] = tuple(names)
    return ways


def _of_operations(found: Any, operations: Sequence[str], where: str) -> Mapping[str, Any]:
    table = _table(found, where)
    for operation in table:
        if operation not in operations:
            raise ValueError(f"{where} has {said(operation)}, which is not among the declared operations")
    return table
