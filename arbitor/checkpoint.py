"""Checkpoints: all state of a run in one safetensors file that is whole, unaltered and ours, or is refused.

Training that is bit-exact is worth nothing if the file between two sessions is not. Three things are done for
that. A file is written beside its destination and moved there (`write_whole`), so a kill leaves the old
checkpoint. The tensors are hashed as ARB-STATE-008 says and the hash is in the metadata; it is the number
that runs are compared by, so it is the same for both formats of the codes. And the metadata (configuration,
step, that hash) are hashed too, the `seal`: a flipped bit in the step count is as wrong as one in a weight.
`load_checkpoint` checks all of it before it returns anything, the header before the data are read: a file
that anybody may have written takes memory in proportion to its own size.

The codes are stored as they are in memory, four trits a byte ("2bit"), or with five ("dense"), a fifth
smaller. Runtime state (KV caches, windows) has no place in a checkpoint (ARB-MODEL-003); the caller does not
pass it.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import safetensors
import safetensors.torch
import torch

from arbitor.kernels import reading
from arbitor.kernels.reading import Unreadable, said
from arbitor.kernels.writing import write_whole

from .state import first_place

FORMAT = "arbitor-checkpoint"
FORMAT_VERSION = 1
SPECIFICATION = 2
FORMATS = ("2bit", "dense")

_SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
# of the metadata that a seal fits
_METADATA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["format", "format_version", "specification", "codes", "columns", "config", "step", "digest"],
    "properties": {
        "format": {"const": FORMAT},
        "format_version": {"const": str(FORMAT_VERSION)},
        "specification": {"const": str(SPECIFICATION)},
        "codes": {"enum": list(FORMATS)},
        "columns": {"type": "string"},
        "config": {"type": "string"},
        "step": {"type": "string", "pattern": "^[0-9]{1,19}$"},
        "digest": _SHA256,
    },
}
_COLUMNS = {
    "type": "object",
    "additionalProperties": {"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
}

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
    Raises TypeError for one of which this process has a part.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        if hasattr(tensor, "full_tensor"):
            raise TypeError(
                f"{name} is a DTensor, of which each process has a part: hash full_tensor() of it"
            )
        digest.update(name.encode() + b"\0" + str(tensor.dtype).removeprefix("torch.").encode() + b"\0")
        for extent in (tensor.dim(), *tensor.shape):
            digest.update(extent.to_bytes(8, "little"))
        elements = tensor.cpu().contiguous().reshape(-1).view(_CARRIERS[tensor.element_size()]).numpy()
        digest.update(elements.astype(elements.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def trainer_options(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The trainers' options in the `config` of a checkpoint. Raises ValueError if they did not write it."""
    options = config.get("options")
    if not isinstance(options, Mapping):
        raise ValueError("its config has no options, so it is not a checkpoint of the trainers")
    return options


def ternary_options(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same, of a ternary model. Raises ValueError for a float twin's too."""
    options = trainer_options(config)
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
    for an unknown ``fmt``, a negative step, illegal codes, a missing column count, and names, ranks or a
    config that could not be read back, `TypeError` for codes that are not uint8; the file at ``path`` is then
    as it was.
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
    data = safetensors.torch.save(stored, {**metadata, "seal": _seal(metadata)})
    # what cannot be read back is not written
    _read_metadata(reading.safetensors_header(io.BytesIO(data))[1])
    write_whole(Path(path), data)
    return digest


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read and verify a checkpoint; both formats give codes as uint8 [R, ceil(C/4)].

    Raises `CheckpointError` with one sentence for a file that is missing, truncated, not safetensors, not an
    arbitor checkpoint, of an older or a newer version, altered, or that holds illegal codes (ARB-TRAIN-004,
    ARB-STATE-006). None is read as if it were another.
    """
    with _naming(path), reading.regular(path) as file:
        return _parse(file)


def read_head(path: str | Path) -> tuple[dict[str, Any], frozenset[str]]:
    """The config of a checkpoint and the names of its tensors, which are not read: a damage of theirs is for
    `load_checkpoint` to see. Raises `CheckpointError` as that does for all else."""
    with _naming(path), reading.regular(path) as file:
        header, metadata, _ = reading.safetensors_header(file)
        _, config, _ = _read_metadata(metadata)
        return config, frozenset(reading.json_object(header[8:])) - {"__metadata__"}


@contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    """What keeps the checkpoint at `path` from being read, as a CheckpointError."""
    try:
        yield
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except MemoryError:
        raise CheckpointError(f"{path}: cannot be read: it does not fit into memory") from None
    except (CheckpointError, Unreadable) as error:
        raise CheckpointError(f"{path}: {error}") from error.__cause__


def _parse(file: BinaryIO) -> Checkpoint:
    header, metadata, end = reading.safetensors_header(file)
    fmt, config, widths = _read_metadata(metadata)
    file.seek(0)
    data = file.read(end + 1)
    if len(data) < end or data[: len(header)] != header:
        raise CheckpointError(f"truncated: {len(data)} bytes, the data end at {end}")
    try:
        tensors = safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"the safetensors header does not fit the data: {error}") from error
    for name in filter(_is_codes, sorted(tensors)):
        try:
            if fmt == "dense" and name not in widths:
                raise ValueError("the columns of its dense trits are not there")
            if fmt == "dense":
                tensors[name] = _from_dense(tensors[name], widths[name])
            _check_codes(name, tensors[name])
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"tensor {name!r} is illegal: {error}") from error
    digest = state_hash(tensors)
    if digest != metadata["digest"]:
        raise CheckpointError(f"altered: the tensors hash to {digest}, the file says {metadata['digest']}")
    return Checkpoint(tensors, config, int(metadata["step"]), digest, fmt)


def _read_metadata(metadata: dict[str, Any]) -> tuple[str, dict[str, Any], dict[str, int]]:
    """Format of the codes, config and columns of metadata that are ours, of this version, with a seal that
    fits, and of the schema."""
    if metadata.get("format") != FORMAT:
        found = said(metadata.get("format"))
        raise CheckpointError(
            f"a safetensors file, but not an arbitor checkpoint: format is {found}, expected {FORMAT!r}"
        )
    for key, known in (("format_version", FORMAT_VERSION), ("specification", SPECIFICATION)):
        version = metadata.get(key)
        if version != str(known):
            raise CheckpointError(f"{key} is {said(version)}, expected {str(known)!r}{_age(version, known)}")
    bare = {key: value for key, value in metadata.items() if key != "seal"}
    if metadata.get("seal") != _seal(bare):
        what = "the metadata (configuration, step, digest)"
        found = said(metadata.get("seal"))
        raise CheckpointError(f"altered: {what} hash to {_seal(bare)}, their seal is {found}")
    try:
        fault = reading.schema_fault(bare, _METADATA)
        if fault is not None:
            raise Unreadable(fault)
        config, widths = (_json_in(bare, key) for key in ("config", "columns"))
        fault = reading.schema_fault(widths, _COLUMNS)
        if fault is not None:
            raise Unreadable(f"columns {fault}")
    except Unreadable as error:
        raise CheckpointError(f"the metadata cannot be read: {error}") from error
    return bare["codes"], config, widths


def _json_in(metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    try:
        return reading.json_object(metadata[key].encode("utf-8", "surrogatepass"))
    except Unreadable as error:
        raise Unreadable(f"{key}: {error}") from None


def _age(version: object, known: int) -> str:
    """A guess at who wrote that version, empty for one that is no number."""
    if not isinstance(version, str) or not version.isdecimal() or len(version) > 9:
        return ""
    return f"; it was written by {'a newer' if int(version) > known else 'an older'} arbitor"


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
    place = first_place((codes & (codes >> 1) & 0b01010101).bool())
    if place is not None:
        row, column = place
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
