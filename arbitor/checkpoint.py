"""Checkpoints: all state of a run in one safetensors file that is whole, unaltered and ours, or is refused.

Training that is bit-exact is worth nothing if the file between two sessions is not. Three things are done for
that. A file is written beside its destination and moved there (`write_whole`), so a kill leaves the old
checkpoint. The tensors are hashed as ARB-STATE-008 says and the hash is in the metadata; it is the number
that runs are compared by, so it is the same for both formats of the codes. And the metadata (configuration,
step, that hash) are hashed too, the `seal`: a flipped bit in the step count is as wrong as one in a weight.
`load_checkpoint` checks all of it before it returns anything.

The codes are stored as they are in memory, four trits a byte ("2bit"), or with five ("dense"), a fifth
smaller. Runtime state (KV caches, windows) has no place in a checkpoint (ARB-MODEL-003); the caller does not
pass it.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch

FORMAT = "arbitor-checkpoint"
FORMAT_VERSION = 1
SPECIFICATION = 1
FORMATS = ("2bit", "dense")

# Integers as wide as an element carry the bits of any dtype, also of those that NumPy lacks.
_CARRIERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class CheckpointError(ValueError):
    """A file that is not a whole, unaltered checkpoint; the message says what was found (ARB-TRAIN-004)."""


@dataclass(frozen=True)
class Checkpoint:
    """``tensors`` on the CPU (codes four trits a byte), JSON ``config``, ``step``, the state hash, and the
    format of the codes in the file."""

    tensors: dict[str, torch.Tensor]
    config: dict[str, Any]
    step: int
    digest: str
    fmt: str = "2bit"


def state_hash(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 in hex over names, dtypes, shapes and elements, in the order of the names (ARB-STATE-008).

    Takes tensors of any dtype, shape and device; the floats of baselines count under their torch names.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        digest.update(name.encode() + b"\0" + str(tensor.dtype).removeprefix("torch.").encode() + b"\0")
        for extent in (tensor.dim(), *tensor.shape):
            digest.update(extent.to_bytes(8, "little"))
        elements = tensor.cpu().contiguous().reshape(-1).view(_CARRIERS[tensor.element_size()]).numpy()
        digest.update(elements.astype(elements.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path``; a kill at any moment leaves the old file or the new one (ARB-TRAIN-004)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # the move itself is on disk once the folder is
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def ternary_options(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The trainers' options in the `config` of a checkpoint. Raises ValueError if they did not write it, or
    for a float twin's."""
    options = config.get("options")
    if not isinstance(options, Mapping):
        raise ValueError("its config has no options, so it is not a checkpoint of the trainers")
    if options.get("baseline") is not None:
        raise ValueError(
            f"a checkpoint of the {options['baseline']} baseline, expected one of a ternary model"
        )
    return options


def save_checkpoint(
    path: str | Path,
    tensors: Mapping[str, torch.Tensor],
    config: Mapping[str, Any],
    step: int,
    fmt: Literal["2bit", "dense"] = "2bit",
    columns: Mapping[str, int] | None = None,
) -> str:
    """Write a checkpoint whole or not at all (ARB-TRAIN-004) and return its state hash.

    ``tensors`` named ``codes`` or ``*.codes`` are uint8 [R, ceil(C/4)] (section 2); "dense" needs their C in
    ``columns``. ``config`` comes back as JSON gives it: tuples as lists, keys as strings. Raises `ValueError`
    for an unknown ``fmt``, a negative step, illegal codes, a missing column count or a config that is not
    JSON, `TypeError` for codes that are not uint8; the file at ``path`` is then as it was.
    """
    if fmt not in FORMATS:
        raise ValueError(f"checkpoint format {fmt!r}, expected '2bit' or 'dense'")
    if step < 0:
        raise ValueError(f"step {step}, expected 0 or more")
    if "__metadata__" in tensors:
        raise ValueError("tensor name '__metadata__' is reserved by safetensors")
    stored = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    digest = state_hash(stored)
    widths = {name: width for name, width in (columns or {}).items() if name in stored}
    for name in filter(_is_codes, stored):
        _check_codes(name, stored[name])
        if fmt == "dense":
            if name not in widths:
                raise ValueError(
                    f"no column count for {name!r}, expected one in columns to store it as dense trits"
                )
            stored[name] = _to_dense(name, stored[name], widths[name])
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "specification": str(SPECIFICATION),
        "codes": fmt,
        "columns": json.dumps(widths, sort_keys=True),
        "config": json.dumps(dict(config), allow_nan=False),
        "step": str(int(step)),
        "digest": digest,
    }
    write_whole(Path(path), safetensors.torch.save(stored, {**metadata, "seal": _seal(metadata)}))
    return digest


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read and verify a checkpoint; both formats give codes as uint8 [R, ceil(C/4)].

    Raises `CheckpointError` with one sentence for a file that is missing, truncated, not safetensors, not an
    arbitor checkpoint, of an older or a newer version, altered, or that holds illegal codes (ARB-TRAIN-004,
    ARB-STATE-006). There is one version so far; none is read as if it were another.
    """
    try:
        return _parse(Path(path).read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error.__cause__


def _parse(data: bytes) -> Checkpoint:
    metadata = _read_metadata(data)
    try:
        tensors = safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"the safetensors header does not fit the data: {error}") from error
    try:
        config, widths = json.loads(metadata["config"]), json.loads(metadata["columns"])
        step, fmt = int(metadata["step"]), metadata["codes"]
        if not isinstance(config, dict) or not isinstance(widths, dict) or step < 0 or fmt not in FORMATS:
            raise ValueError(f"codes {fmt!r}, step {step}, a config that is a {type(config).__name__}")
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(f"the metadata cannot be read: {error}") from error
    for name in filter(_is_codes, tensors):
        try:
            if fmt == "dense":
                tensors[name] = _from_dense(tensors[name], widths[name])
            _check_codes(name, tensors[name])
        except (KeyError, ValueError, TypeError) as error:
            raise CheckpointError(f"tensor {name!r} is illegal: {error}") from error
    digest = state_hash(tensors)
    if digest != metadata["digest"]:
        raise CheckpointError(f"altered: the tensors hash to {digest}, the file says {metadata['digest']}")
    return Checkpoint(tensors, config, step, digest, fmt)


def _read_metadata(data: bytes) -> dict[str, str]:
    """The metadata of a file that is complete, ours, of this version, and has an intact seal."""
    header = _read_header(data)
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        found = metadata.get("format") if isinstance(metadata, dict) else None
        raise CheckpointError(
            f"a safetensors file, but not an arbitor checkpoint: format is {found!r}, expected {FORMAT!r}"
        )
    for key, known in (("format_version", FORMAT_VERSION), ("specification", SPECIFICATION)):
        found = metadata.get(key)
        if found != str(known):
            raise CheckpointError(f"{key} is {found!r}, expected {str(known)!r}{_age(found, known)}")
    seal, own = metadata.pop("seal", None), _seal(metadata)
    if seal != own:
        what = "the metadata (configuration, step, digest)"
        raise CheckpointError(f"altered: {what} hash to {own}, their seal is {seal!r}")
    return metadata


def _age(version: object, known: int) -> str:
    """A guess at who wrote that version, empty for one that is no number."""
    if not isinstance(version, str) or not version.isdecimal() or len(version) > 9:
        return ""
    return f"; it was written by {'a newer' if int(version) > known else 'an older'} arbitor"


def _read_header(data: bytes) -> dict[str, Any]:
    """The header of a complete safetensors file: 8 bytes of length, the header in JSON, the data."""
    if len(data) < 8:
        raise CheckpointError(
            f"truncated: {len(data)} bytes, a safetensors file begins with 8 bytes of header length"
        )
    length = int.from_bytes(data[:8], "little")
    if data[8:9] not in (b"", b"{") or length > 100_000_000:  # the format's own limit for a header
        start = f"it begins with {data[:9]!r}, expected the length of a header and '{{'"
        raise CheckpointError(f"not a safetensors file: {start}")
    if len(data) < 8 + length:
        raise CheckpointError(f"truncated: {len(data)} bytes, the header alone ends at {8 + length}")
    try:
        header = json.loads(data[8 : 8 + length])
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        end = 8 + length + max(ends, default=0)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"not a safetensors file: its header cannot be read ({error})") from error
    if len(data) < end:
        raise CheckpointError(f"truncated: {len(data)} bytes, the data end at {end}")
    return dict(header)


def _seal(metadata: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()


def _is_codes(name: str) -> bool:
    return name == "codes" or name.endswith(".codes")


def _check_codes(name: str, codes: torch.Tensor) -> None:
    """Refuse another dtype or rank, and code 3 in any field (ARB-PACK-003, ARB-STATE-006)."""
    if codes.dtype != torch.uint8:
        raise TypeError(f"{name} is {codes.dtype}, expected torch.uint8")
    if codes.dim() != 2:
        raise ValueError(f"{name} has shape {list(codes.shape)}, expected two dimensions")
    bad = (codes & (codes >> 1) & 0b01010101).nonzero()
    if len(bad):
        row, column = bad[0].tolist()
        raise ValueError(
            f"{name}[{row}, {column}] is {int(codes[row, column]):#04x}, expected no field with code 3"
        )


def _to_dense(name: str, codes: torch.Tensor, columns: int) -> torch.Tensor:
    from arbitor.kernels import registry  # only here: the other format needs no backend

    backend = registry.select("torch")
    if codes.shape[1] != -(-columns // 4):
        raise ValueError(
            f"{name} has {codes.shape[1]} bytes a row, expected {-(-columns // 4)} for {columns} columns"
        )
    dense: torch.Tensor = backend.pack_dense(backend.unpack(codes, columns))
    return dense


def _from_dense(dense: torch.Tensor, columns: int) -> torch.Tensor:
    from arbitor.kernels import registry

    backend = registry.select("torch")
    codes: torch.Tensor = backend.pack(backend.unpack_dense(dense, columns))
    return codes
