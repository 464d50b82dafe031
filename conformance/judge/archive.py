"""The file of a failed case, `<operation>-<digest>.arb`: self-contained, and readable by every later version.

A zip archive, stored and not compressed, with fixed times and sorted names:

    manifest.json            what it is a case of, and the digests of all other members; sealed by its own
    inputs/<argument>.bin    arguments before the call, raw little-endian elements in C order
    expected/<array>.bin     what the judge gave
    actual/<array>.bin       what the backend gave, if it gave anything
    text.txt                 the difference, for people

Nothing in it depends on Hypothesis, on pickle or on the version of NumPy. docs/fuzzing.md describes format 1.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arbitor.checkpoint import write_whole
from arbitor.conformance.judge.cases import Case, FailedCall, FailedRefusal, FailedSteps
from arbitor.judge.seal import SEAL, sealed
from arbitor.kernels.operations import OPERATIONS
from arbitor.provenance import machine, source

FORMAT, VERSION = "arbitor-artifact", 1
MANIFEST, TEXT = "manifest.json", "text.txt"
STEPS = "steps"  # in the place of an operation's name
KINDS = {FailedCall: "call", FailedRefusal: "refusal", FailedSteps: "steps"}
REFUSALS = ("ValueError", "TypeError")
LARGEST = 1 << 28  # bytes of all arrays together
_TIME = (1980, 1, 1, 0, 0, 0)
_CARRIERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
DTYPES = (
    "uint8", "int8", "int16", "int32", "int64", "float32",
    "bool", "uint16", "uint32", "uint64", "float16", "bfloat16", "float64",
)  # fmt: skip


class ArtifactError(ValueError):
    """A file that is not a whole, unaltered artifact; the message is one sentence."""


@dataclass(frozen=True)
class Failure:
    """Where a case comes from: the test and its clauses, what was seen, and lines that repeat it."""

    test: str = ""
    clauses: Sequence[str] = ()
    message: str = ""
    reproduction: str = ""


@dataclass(frozen=True)
class Artifact:
    """A case with its failure, and the whole manifest for who wants more."""

    case: Case
    failure: Failure
    manifest: Mapping[str, Any]


def write(case: Case, failure: Failure, folder: Path = Path("reports")) -> Path:
    """Write the case to folder/<operation>-<digest>.arb; the same case of the same test has the same name.

    Raises ValueError for a case whose arrays have more than LARGEST bytes.
    """
    members: dict[str, bytes] = {}
    about: dict[str, Any]
    if isinstance(case, FailedSteps):
        operation = STEPS
        about = {
            "configuration": dict(case.configuration),
            "steps": [dict(s) for s in case.steps],
            "hashes": list(case.hashes),
        }
    else:
        operation = case.operation
        about = _call(case, members)
    bare = {
        "format": FORMAT,
        "version": VERSION,
        "kind": KINDS[type(case)],
        "operation": operation,
        **about,
        "backend": case.backend,
        "device": case.device,
        "test": failure.test,
        "clauses": list(failure.clauses),
        "message": failure.message,
        "reproduction": failure.reproduction,
    }
    told = json.dumps({**bare, "message": "", "reproduction": ""}, sort_keys=True)
    digest = hashlib.sha256(told.encode() + b"".join(members[n] for n in sorted(members) if "inputs/" in n))
    members[TEXT] = _text(bare).encode()
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(members.items())}
    made = {"machine": machine(), "source": source(Path(__file__).resolve().parents[2])}
    manifest = sealed({**bare, **made, "members": digests})
    members[MANIFEST] = (json.dumps(manifest, indent=2) + "\n").encode()
    path = folder / f"{operation}-{digest.hexdigest()[:12]}.arb"
    write_whole(path, _zipped(members))
    return path


def _call(case: FailedCall | FailedRefusal, members: dict[str, bytes]) -> dict[str, Any]:
    """The part of the manifest about a call; its arrays go to `members`."""
    arrays: dict[str, Any] = {}
    inputs = {n: v for n, v in case.arguments.items() if isinstance(v, torch.Tensor)}
    roles: dict[str, Mapping[str, Any]] = {"inputs": inputs}
    if isinstance(case, FailedCall):
        roles |= {"expected": case.expected, "actual": case.actual}
    for role, tensors in roles.items():
        for name, tensor in tensors.items():
            if not isinstance(tensor, torch.Tensor):
                continue  # an answer that is no tensor; the message says so
            dtype = str(tensor.dtype).removeprefix("torch.")
            if dtype in DTYPES:
                members[f"{role}/{name}.bin"] = raw(tensor)
                arrays[f"{role}/{name}"] = {"dtype": dtype, "shape": list(tensor.shape)}
    size = sum(map(len, members.values()))
    if size > LARGEST:
        raise ValueError(f"its arrays have {size:,} bytes, more than the {LARGEST:,} that are kept")
    scalars = {name: value for name, value in case.arguments.items() if name not in inputs}
    about = {"scalars": scalars, "arrays": arrays}
    if isinstance(case, FailedRefusal):
        return about | {"error": case.error, "names": list(case.names)}
    return about | {"way": dict(case.way)}


def raw(tensor: torch.Tensor) -> bytes:
    """The elements in C order, little-endian."""
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(_CARRIERS[tensor.element_size()]).numpy()
    return flat.astype(flat.dtype.newbyteorder("<"), copy=False).tobytes()


def _text(bare: Mapping[str, Any]) -> str:
    """For people: the first thing that they see when they open the archive."""
    lines = [f"{bare['operation']}: a failed {bare['kind']} on {bare['backend']} ({bare['device']})"]
    lines += [f"test: {bare['test']}"] if bare["test"] else []
    lines += [f"clauses: {', '.join(bare['clauses'])}"] if bare["clauses"] else []
    lines += ["", bare["message"], ""]
    lines += [f"configuration: {json.dumps(bare['configuration'])}"] if "configuration" in bare else []
    lines += [f"{number}. {json.dumps(step)}" for number, step in enumerate(bare.get("steps", ()), 1)]
    lines += [f"{name}: {value!r}" for name, value in bare.get("scalars", {}).items()]
    lines += [f"{n}: {a['dtype']} {a['shape']}" for n, a in bare.get("arrays", {}).items()]
    lines += ["", bare["reproduction"]] if bare["reproduction"] else []
    return "\n".join(lines) + "\n"


def _zipped(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, _TIME)
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, members[name])
    return buffer.getvalue()


def read(path: Path) -> Artifact:
    """The artifact in a file, checked in full before anything is given back.

    Raises ArtifactError for a file that is missing, truncated, edited, of another kind or of a newer version.
    """
    try:
        members = _members(path.read_bytes())
        manifest = _manifest(members)
        return _artifact(manifest, members)
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror or error}") from None
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ArtifactError(f"{path}: the manifest cannot be read ({what})") from None


def _members(data: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist():
                if info.compress_type != zipfile.ZIP_STORED or info.file_size > len(data):
                    raise ArtifactError(f"{info.filename!r} is compressed, an artifact stores its members")
            found = {info.filename: archive.read(info) for info in archive.infolist()}
            if len(found) != len(archive.infolist()):
                raise ArtifactError("edited: two members have one name")
            return found
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"truncated, or no artifact: {' '.join(str(error).split())}") from None


def _manifest(members: Mapping[str, bytes]) -> dict[str, Any]:
    if MANIFEST not in members:
        raise ArtifactError(f"a zip archive, but no artifact: it has no {MANIFEST}")
    manifest = json.loads(members[MANIFEST])
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ArtifactError(f"a zip archive, but no artifact: its format is not {FORMAT!r}")
    version = manifest.get("version")
    if version != VERSION:
        raise ArtifactError(f"format {version!r}, this version of arbitor reads format {VERSION}")
    if manifest.get(SEAL) != sealed(manifest)[SEAL]:
        raise ArtifactError("edited: the manifest does not hash to its seal")
    digests = manifest["members"]
    if digests.keys() | {MANIFEST} != members.keys():
        raise ArtifactError(f"edited: it holds {sorted(members)}, expected {sorted(digests)} and {MANIFEST}")
    for name, digest in digests.items():
        if hashlib.sha256(members[name]).hexdigest() != digest:
            raise ArtifactError(f"edited: {name} does not have the digest that the manifest gives")
    return manifest


def _artifact(manifest: Mapping[str, Any], members: Mapping[str, bytes]) -> Artifact:
    where = {"backend": manifest["backend"], "device": manifest["device"]}
    case: Case
    if manifest["kind"] == "steps":
        case = FailedSteps(manifest["configuration"], manifest["steps"], **where, hashes=manifest["hashes"])
    elif manifest["kind"] in ("call", "refusal") and manifest["operation"] in OPERATIONS:
        arrays: dict[str, dict[str, torch.Tensor]] = {"inputs": {}, "expected": {}, "actual": {}}
        for place, about in manifest["arrays"].items():
            role, name = place.split("/")
            arrays[role][name] = _tensor(members[f"{place}.bin"], about)
        given = {**manifest["scalars"], **arrays.pop("inputs")}
        operation = OPERATIONS[manifest["operation"]]
        arguments = {name: given[name] for name in operation.arguments}
        if manifest["kind"] == "refusal":
            error = _one_of("error", manifest["error"], REFUSALS)
            case = FailedRefusal(operation.name, arguments, error, manifest["names"], **where)
        else:
            answers = (arrays["expected"], arrays["actual"], manifest["way"])
            case = FailedCall(operation.name, arguments, where["backend"], where["device"], *answers)
    else:
        raise ArtifactError(f"a {manifest['kind']} of {manifest['operation']!r}, which there is not")
    names = ("test", "clauses", "message", "reproduction")
    return Artifact(case, Failure(*(manifest[name] for name in names)), manifest)


def _one_of(what: str, name: str, known: Sequence[str]) -> str:
    if name not in known:
        raise ArtifactError(f"{what} {name!r}, expected one of {', '.join(known)}")
    return name


def _tensor(data: bytes, about: Mapping[str, Any]) -> torch.Tensor:
    dtype: torch.dtype = getattr(torch, _one_of("an array of dtype", about["dtype"], DTYPES))
    carrier = _CARRIERS[dtype.itemsize]
    little = np.dtype(str(carrier).removeprefix("torch.")).newbyteorder("<")
    flat = torch.from_numpy(np.frombuffer(data, little).astype(little.newbyteorder("=")))
    return flat.view(dtype).reshape(about["shape"])
