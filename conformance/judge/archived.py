"""Artifacts as they are read: whole and unedited, and what they ask for is legal and bounded, or refused.

An artifact is a file that somebody sends. All that it says is checked here, in full and before any of it is
done: the archive by its own directory, the manifest by its schema, the arrays by their bytes, the call by the
table of operations. What the steps of a run hold is checked in machine/world.py.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arbitor.checkpoint import SPECIFICATION
from arbitor.conformance.judge.archive import (
    CARRIERS,
    FORMAT,
    LARGEST,
    MANIFEST,
    MOST,
    VERSION,
    Failure,
    manifest_fault,
)
from arbitor.conformance.judge.cases import Case, FailedCall, FailedRefusal, FailedSteps, laid_out
from arbitor.judge.seal import SEAL, sealed
from arbitor.judge.sizes import size_fault
from arbitor.kernels import reading
from arbitor.kernels.operations import OPERATIONS, Operation
from arbitor.kernels.reading import Unreadable, said

SINCE_2 = {"e_g", "moment"}  # arguments that updates of specification 1 had not
MEMBERS, DIRECTORY = 64, 1 << 16  # of an archive, at most: its members, bytes of its directory
_END = struct.Struct("<4s4H2LH")  # the record that an archive ends in


class ArtifactError(ValueError):
    """A file that is not a whole, unaltered artifact; the message is one sentence."""


@dataclass(frozen=True)
class Artifact:
    """A case with its failure, and the whole manifest for who wants more."""

    case: Case
    failure: Failure
    manifest: Mapping[str, Any]


def read(path: Path) -> Artifact:
    """The artifact in a file, checked in full before anything is given back.

    Raises ArtifactError for a file that is missing, truncated, edited, of another kind or of a newer version,
    and for a case that is not legal or too large to be repeated.
    """
    try:
        members = _members(reading.file_bytes(path, MOST))
        manifest = _manifest(members)
        return Artifact(_case(manifest, members), _failure(manifest), manifest)
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror or error}") from None
    except (ArtifactError, Unreadable) as error:
        raise ArtifactError(f"{path}: {error}") from None


def _members(data: bytes) -> dict[str, bytes]:
    _check_end(data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            found = archive.infolist()
            for info in found:
                if info.compress_type != zipfile.ZIP_STORED:
                    raise ArtifactError(f"{info.filename!r} is compressed, an artifact stores its members")
            if len({info.filename for info in found}) != len(found):
                raise ArtifactError("edited: two members have one name")
            if sum(info.file_size for info in found) > len(data):  # they overlap
                raise ArtifactError("edited: its members have more bytes than the file")
            return {info.filename: archive.read(info) for info in found}
    except ArtifactError:
        raise
    except (zipfile.BadZipFile, EOFError, RuntimeError, OSError, ValueError, struct.error) as error:
        raise ArtifactError(f"truncated, or no artifact: {' '.join(str(error).split())}") from None


def _check_end(data: bytes) -> None:
    """Refuse a directory that is larger than an artifact's before zipfile makes objects of it."""
    if len(data) < _END.size or not data[-_END.size :].startswith(b"PK\5\6"):
        raise ArtifactError("truncated, or no artifact: it does not end as a zip archive does")
    _, _, _, here, members, size, _, comment = _END.unpack(data[-_END.size :])
    large = data[-_END.size - 20 : -_END.size].startswith(b"PK\6\7")  # as one of 4 GB or more
    if large or max(here, members) > MEMBERS or size > DIRECTORY or comment:
        raise ArtifactError(f"no artifact: a zip archive of {members} members, expected at most {MEMBERS}")


def _manifest(members: Mapping[str, bytes]) -> dict[str, Any]:
    if MANIFEST not in members:
        raise ArtifactError(f"a zip archive, but no artifact: it has no {MANIFEST}")
    try:
        manifest = reading.json_object(members[MANIFEST])
    except Unreadable as error:
        raise ArtifactError(f"the manifest cannot be read: {error}") from None
    if manifest.get("format") != FORMAT:
        raise ArtifactError(f"a zip archive, but no artifact: its format is not {FORMAT!r}")
    if manifest.get("version") != VERSION:
        version = said(manifest.get("version"))
        raise ArtifactError(f"format {version}, this version of arbitor reads format {VERSION}")
    if manifest.get(SEAL) != sealed(manifest)[SEAL]:
        raise ArtifactError("edited: the manifest does not hash to its seal")
    fault = manifest_fault(manifest)
    if fault is not None:
        raise ArtifactError(f"the manifest leaves its schema {fault}")
    digests = manifest["members"]
    if digests.keys() | {MANIFEST} != members.keys():
        raise ArtifactError(f"edited: it holds {sorted(members)}, expected {sorted(digests)} and {MANIFEST}")
    for name, digest in digests.items():
        if hashlib.sha256(members[name]).hexdigest() != digest:
            raise ArtifactError(f"edited: {name} does not have the digest that the manifest gives")
    return manifest


def _failure(manifest: Mapping[str, Any]) -> Failure:
    return Failure(*(manifest[name] for name in ("test", "clauses", "message", "reproduction")))


def _case(manifest: Mapping[str, Any], members: Mapping[str, bytes]) -> Case:
    where = (manifest["backend"], manifest["device"])
    if manifest["kind"] == "steps":
        return FailedSteps(manifest["configuration"], manifest["steps"], *where, manifest["hashes"])
    operation = OPERATIONS.get(manifest["operation"])
    if operation is None:
        raise ArtifactError(f"a {manifest['kind']} of {manifest['operation']!r}, which there is not")
    arrays: dict[str, dict[str, torch.Tensor]] = {"inputs": {}, "expected": {}, "actual": {}}
    for place, about in manifest["arrays"].items():
        role, name = place.split("/")
        arrays[role][name] = _tensor(place, members.get(f"{place}.bin"), about)
    arguments = _arguments(operation, manifest["scalars"], arrays["inputs"])
    if manifest["kind"] == "refusal":
        _check_refusal(operation, arguments)
        return FailedRefusal(operation.name, arguments, manifest["error"], manifest["names"], *where)
    _check_call(operation, arguments, manifest["way"])
    answers = (arrays["expected"], arrays["actual"], manifest["way"])
    return FailedCall(operation.name, arguments, *where, *answers)


def _tensor(place: str, data: bytes | None, about: Mapping[str, Any]) -> torch.Tensor:
    dtype: torch.dtype = getattr(torch, about["dtype"])
    found, shape = len(data or b""), about["shape"]
    expected = prod(shape) * dtype.itemsize
    if data is None or found != expected or (not expected and prod(n or 1 for n in shape) >= 2**31):
        told = "is not there" if data is None else f"has {found:,} bytes"
        raise ArtifactError(f"{place}.bin {told}, expected {expected:,} for {about['dtype']} {shape}")
    carrier = CARRIERS[dtype.itemsize]
    little = np.dtype(str(carrier).removeprefix("torch.")).newbyteorder("<")
    flat = torch.from_numpy(np.frombuffer(data, little).astype(little.newbyteorder("=")))
    return flat.view(dtype).reshape(shape)


def _arguments(
    operation: Operation, scalars: Mapping[str, Any], inputs: Mapping[str, torch.Tensor]
) -> dict[str, Any]:
    given = {**scalars, **inputs}
    if len(given) != len(scalars) + len(inputs) or given.keys() != set(operation.arguments):
        if set(operation.arguments) - given.keys() == SINCE_2:
            raise ArtifactError(
                f"a call of {operation.name} of specification 1, which has neither e_g nor moment: this "
                f"version of arbitor is of specification {SPECIFICATION}"
            )
        expected = ", ".join(operation.arguments)
        raise ArtifactError(f"{operation.name} with {', '.join(sorted(given))}, expected {expected}")
    return {name: given[name] for name in operation.arguments}


def _check_call(operation: Operation, arguments: Mapping[str, Any], way: Mapping[str, Any]) -> None:
    """The call is legal, not too large, and can be laid out as it was."""
    try:
        fault = size_fault(operation, arguments)
        for name, (strides, offset) in way.get("strides", {}).items():
            fault = fault or _layout_fault(name, arguments.get(name), strides, offset)
    except (ValueError, TypeError) as error:
        fault = str(error)
    matrices = {array.name for array in operation.arrays if len(array.axes) == 2}
    strange = [name for name in way.get("arena", {}).get("turned", ()) if name not in matrices]
    if fault is not None or strange:
        raise ArtifactError(f"a call that cannot be repeated: {fault or f'{strange[0]} is no matrix of it'}")


def _layout_fault(name: str, tensor: Any, strides: list[int], offset: int) -> str | None:
    """Why an argument cannot lie in memory in that way; raises ValueError where `laid_out` says it."""
    if not isinstance(tensor, torch.Tensor):
        return f"{name} is none of its arrays"
    extent = offset + 1 + sum((n - 1) * s for n, s in zip(tensor.shape, strides, strict=False))
    if extent * tensor.element_size() > LARGEST:
        return f"{name} with strides {said(strides)} would take more than {LARGEST:,} bytes"
    laid_out(tensor, strides, offset)
    return None


def _check_refusal(operation: Operation, arguments: Mapping[str, Any]) -> None:
    """A call that is refused before a backend is asked takes nothing; any other is bounded."""
    try:
        fault = size_fault(operation, arguments)
    except (ValueError, TypeError):
        return
    if fault is not None:
        raise ArtifactError(f"a call that cannot be repeated: {fault}")
