"""Test vectors: the format of their files, and how a folder of them is read (docs/vectors.md).

A folder has one JSON file an operation and a manifest that names each by its SHA-256. Whatever does not fit
is `VectorsRefused`, one sentence, before anything is judged: a vector that was edited, that is missing, or
with which nothing would be compared, must not look like one that passed. What a vector means for a backend is
in vector_check.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from arbitor.kernels import reading
from arbitor.kernels.operations import OPERATIONS
from arbitor.kernels.reading import Unreadable, said

from ..checkpoint import SPECIFICATION
from .seal import SEAL, sealed
from .sizes import size_fault
from .suite import find_suite

FORMAT = 1
MANIFEST = "manifest.json"
DTYPES = ("uint8", "int8", "int16", "int32", "int64", "float32")
EVERYONE, ON_CPU, JUDGES = "everyone", "cpu", "judges"
SEEN_BY = (EVERYONE, ON_CPU, JUDGES)  # who has to notice an illegal call


class VectorsRefused(ValueError):
    """Why a folder of vectors is not used, in one sentence."""


@dataclass(frozen=True)
class Vector:
    """One call and what it must give, or the refusal that it must meet; arrays as JSON has them."""

    id: str
    operation: str
    clauses: tuple[str, ...]
    why: str
    arguments: Mapping[str, Any]
    gives: Mapping[str, Any] | None
    refuses: Mapping[str, Any] | None

    def __str__(self) -> str:
        return f"{self.id} ({', '.join(self.clauses)})"


def default_folder() -> Path:
    """Where the vectors that ship with the suite are; raises RuntimeError if the suite is not there."""
    return find_suite() / "vectors"


def encode(array: NDArray[Any]) -> dict[str, Any]:
    """An array as a vector has it: dtype, shape, and its elements in C order; float32 as 32-bit patterns."""
    plain = np.ascontiguousarray(array).reshape(-1)
    data = plain.view(np.uint32) if array.dtype == np.float32 else plain
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": data.tolist()}


def decode(where: str, found: Mapping[str, Any]) -> NDArray[Any]:
    """The array that `encode` wrote; raises VectorsRefused for what is none, naming `where`."""
    try:
        dtype, shape, data = found["dtype"], found["shape"], found["data"]
        if set(found) != {"dtype", "shape", "data"} or dtype not in DTYPES or len(data) != prod(shape):
            raise ValueError(f"dtype {said(dtype)}, shape {said(shape)} and {len(data)} elements")
        if not all(type(element) is int for element in data):
            raise ValueError("its elements are not all integers")
        stored = np.uint32 if dtype == "float32" else np.dtype(dtype)
        array: NDArray[Any] = np.array(data, stored).view(dtype).reshape(shape)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise VectorsRefused(f"{where} is no array: {error}") from None
    return array


def digest(entry: Mapping[str, Any]) -> str:
    """SHA-256 of a vector without its digest: its JSON with keys sorted, no blanks, ASCII."""
    return str(sealed({name: value for name, value in entry.items() if name != "digest"})[SEAL])


def file_text(operation: str, entries: Sequence[Mapping[str, Any]]) -> str:
    """The file of an operation: JSON with a line for every argument, so that a change shows in a diff."""
    vectors = ",\n".join(_vector_text(entry) for entry in entries)
    return f'{{\n"format": {FORMAT},\n"operation": "{operation}",\n"vectors": [\n{vectors}\n]\n}}\n'


def _vector_text(entry: Mapping[str, Any]) -> str:
    lines = []
    for name, value in {**entry, "digest": digest(entry)}.items():
        if name in ("arguments", "gives"):
            inner = ",\n".join(f"   {json.dumps(key)}: {json.dumps(part)}" for key, part in value.items())
            lines.append(f'  "{name}": {{\n{inner}\n  }}')
        else:
            lines.append(f'  "{name}": {json.dumps(value)}')
    return " {\n" + ",\n".join(lines) + "\n }"


def manifest_text(files: Mapping[str, str]) -> str:
    """The manifest of the files, name: text; sealed by its own SHA-256."""
    named = {
        name: {
            "vectors": len(json.loads(text)["vectors"]),
            "bytes": len(text.encode()),
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
        }
        for name, text in sorted(files.items())
    }
    record = {"format": FORMAT, "specification": SPECIFICATION, "files": named}
    return json.dumps(sealed(record), indent=1) + "\n"


def load(folder: Path) -> list[Vector]:
    """All vectors of a folder, by operation in the order of the table.

    Raises VectorsRefused for a folder without a manifest, a manifest that was edited or has another version,
    a file that is missing, cut short, edited or not named, an operation that does not exist, and a vector
    that is not what its digest says.
    """
    path = folder / MANIFEST
    manifest = _json(path, _bytes(path))
    found = (manifest.get("format"), manifest.get("specification"))
    if found != (FORMAT, SPECIFICATION):
        told, expected = (
            f"{said(n)} of specification {said(s)}" for n, s in (found, (FORMAT, SPECIFICATION))
        )
        raise VectorsRefused(f"{path} is of format {told}, expected {expected}")
    if manifest != sealed(manifest):
        raise VectorsRefused(f"{path} was edited: it is not what its own {SEAL} says")
    _check_schema(path, "manifest", manifest)
    files: dict[str, dict[str, Any]] = manifest["files"]
    strange = sorted({path.name for path in folder.glob("*.json")} - {*files, MANIFEST})
    if strange:
        raise VectorsRefused(f"{folder / strange[0]} is not named in {MANIFEST}")
    vectors = [vector for name, entry in files.items() for vector in _load_file(folder / name, entry)]
    order = list(OPERATIONS)
    return sorted(vectors, key=lambda vector: order.index(vector.operation))


def _bytes(path: Path) -> bytes:
    try:
        return reading.file_bytes(path)
    except OSError as error:
        raise VectorsRefused(f"{path} cannot be read: {error.strerror}") from None
    except Unreadable as error:
        raise VectorsRefused(f"{path}: {error}") from None


def _json(path: Path, data: bytes) -> dict[str, Any]:
    try:
        return reading.json_object(data)
    except Unreadable as error:
        raise VectorsRefused(f"{path} is no JSON object: {error}") from None


def _check_schema(path: Path, kind: str, found: Mapping[str, Any]) -> None:
    schema = json.loads(Path(__file__).with_name("vectors.schema.json").read_text(encoding="utf-8"))
    fault = reading.schema_fault(found, {"$ref": f"#/$defs/{kind}", "$defs": schema["$defs"]})
    if fault is not None:
        raise VectorsRefused(f"{path} leaves the schema {fault}")


def _load_file(path: Path, entry: Mapping[str, Any]) -> list[Vector]:
    data = _bytes(path)
    if len(data) < entry["bytes"]:
        raise VectorsRefused(f"{path} is cut short: {len(data)} bytes, the manifest has {entry['bytes']}")
    found = hashlib.sha256(data).hexdigest()
    if found != entry["sha256"]:
        expected = entry["sha256"]
        edited = _edited(data)
        raise VectorsRefused(
            f"{path} was edited{edited}: its SHA-256 is {found}, the manifest has {expected}"
        )
    file = _json(path, data)
    if file.get("format") != FORMAT:
        raise VectorsRefused(f"{path} is of format {said(file.get('format'))}, expected {FORMAT}")
    _check_schema(path, "file", file)
    if file["operation"] not in OPERATIONS:
        raise VectorsRefused(f"{path} is of the operation {said(file['operation'])}, which does not exist")
    if len(file["vectors"]) != entry["vectors"]:
        expected = entry["vectors"]
        raise VectorsRefused(f"{path} has {len(file['vectors'])} vectors, the manifest has {expected}")
    return [_vector(path, file["operation"], raw) for raw in file["vectors"]]


def _edited(data: bytes) -> str:
    """The vectors of a file that are not what their digests say, in words, as far as it can be read."""
    try:
        raws = [raw for raw in reading.json_object(data)["vectors"] if digest(raw) != raw["digest"]]
        named = [raw["id"] + " (" + ", ".join(raw["clauses"]) + ")" for raw in raws]
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return f" in {', '.join(named)}" if named else ""


def _vector(path: Path, operation: str, raw: dict[str, Any]) -> Vector:
    where = f"{path}: the vector {raw['id']}"
    if raw["digest"] != digest(raw):
        raise VectorsRefused(f"{where} was edited: its digest is {digest(raw)}")
    table = OPERATIONS[operation]
    if set(raw["arguments"]) != set(table.arguments):
        raise VectorsRefused(f"{where} has not the arguments of {operation}")
    gives, refuses = raw.get("gives"), raw.get("refuses")
    if (gives is None) == (refuses is None) or (refuses and refuses["seen_by"] not in SEEN_BY):
        raise VectorsRefused(f"{where} has neither results nor a refusal that is known")
    answers = {array.name for array in table.results} | {a.name for a in table.arrays if a.in_place}
    if gives is not None and set(gives) != answers:
        raise VectorsRefused(f"{where} gives {', '.join(gives) or 'nothing'}, expected {', '.join(answers)}")
    for name, array in (gives or {}).items():
        decode(f"{where}: {name}", array)
    _check_call(where, operation, raw["arguments"], refuses is None)
    return Vector(raw["id"], operation, tuple(raw["clauses"]), raw["why"], raw["arguments"], gives, refuses)


def _check_call(where: str, operation: str, arguments: Mapping[str, Any], legal: bool) -> None:
    """Refuse a call that no backend is asked, or that is too large to be asked for."""
    values = {
        name: torch.from_numpy(decode(f"{where}: {name}", value)) if isinstance(value, dict) else value
        for name, value in arguments.items()
    }
    try:
        fault = size_fault(OPERATIONS[operation], values)
    except (ValueError, TypeError) as error:
        fault = f"it is refused before a backend is asked: {error}" if legal else None
    if fault is not None:
        raise VectorsRefused(f"{where} has a call that is not made: {fault}")
