"""The file of a failed case, `<operation>-<digest>.arb`: self-contained, and readable by every later version.

A zip archive, stored and not compressed, with fixed times and sorted names:

    manifest.json            what it is a case of, and the digests of all other members; sealed by its own
    inputs/<argument>.bin    arguments before the call, raw little-endian elements in C order
    expected/<array>.bin     what the judge gave
    actual/<array>.bin       what the backend gave, if it gave anything
    text.txt                 the difference, for people

Nothing in it depends on Hypothesis, on pickle or on the version of NumPy. docs/fuzzing.md describes format 1,
artifact.json is the schema of its manifest, and archived.py reads it.
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

import torch

from arbitor.conformance.judge.cases import Case, FailedCall, FailedRefusal, FailedSteps
from arbitor.judge.provenance import machine, source
from arbitor.judge.seal import sealed
from arbitor.kernels import reading
from arbitor.kernels.writing import write_whole

FORMAT, VERSION = "arbitor-artifact", 1
MANIFEST, TEXT = "manifest.json", "text.txt"
STEPS = "steps"  # in the place of an operation's name
KINDS = {FailedCall: "call", FailedRefusal: "refusal", FailedSteps: "steps"}
LARGEST = 1 << 28  # bytes of all arrays together
MOST = LARGEST + (1 << 25)  # bytes of a file
_TIME = (1980, 1, 1, 0, 0, 0)
CARRIERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
DTYPES = (
    "uint8", "int8", "int16", "int32", "int64", "float32",
    "bool", "uint16", "uint32", "uint64", "float16", "bfloat16", "float64",
)  # fmt: skip


@dataclass(frozen=True)
class Failure:
    """Where a case comes from: the test and its clauses, what was seen, and lines that repeat it."""

    test: str = ""
    clauses: Sequence[str] = ()
    message: str = ""
    reproduction: str = ""


def write(case: Case, failure: Failure, folder: Path = Path("reports")) -> Path:
    """Write the case to folder/<operation>-<digest>.arb; the same case of the same test has the same name.

    Raises ValueError for a case whose arrays have more than LARGEST bytes, and for one that `archived.read`
    would refuse: a rank over 8, a NaN among its scalars.
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
    fault = manifest_fault(reading.json_of(members[MANIFEST]))
    if fault is not None:
        raise ValueError(f"its manifest leaves the schema {fault}")
    path = folder / f"{operation}-{digest.hexdigest()[:12]}.arb"
    write_whole(path, _zipped(members))
    return path


def manifest_fault(manifest: Mapping[str, Any]) -> str | None:
    """Where a manifest leaves its schema, or None."""
    schema = json.loads(Path(__file__).with_name("artifact.json").read_text(encoding="utf-8"))
    return reading.schema_fault(manifest, schema)


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
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(CARRIERS[tensor.element_size()]).numpy()
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
