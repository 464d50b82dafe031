"""Checkpoints (ARB-TRAIN-004): whole or not at all, back bit for bit, refused when anything is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal
from unittest.mock import Mock

import pytest
import safetensors.torch
import torch

from arbitor.checkpoint import CheckpointError, load_checkpoint, save_checkpoint, state_hash
from arbitor.kernels.writing import write_whole

CONFIG: dict[str, Any] = {"gain": 4.5, "name": "ünïcode", "flags": [True, None], "nested": {"seed": 2**63}}
COLUMNS = {"layer.codes": 5, "codes": 8}


def state() -> dict[str, torch.Tensor]:
    """Every dtype of a state, a baseline's floats, and shapes that are easy to get wrong."""
    return {
        "layer.codes": torch.tensor([[164, 85], [0, 84]], dtype=torch.uint8),
        "codes": torch.tensor([[0b10100100, 0b01010101]], dtype=torch.uint8),
        "layer.t_accum": torch.tensor([[-127, 0, 127, 1, -1], [5, 4, 3, 2, 1]], dtype=torch.int8),
        "layer.corr_accum": torch.tensor([[-32767], [32767]], dtype=torch.int16),
        "layer.step_counter": torch.tensor([2**31 - 1, 0], dtype=torch.int32),
        "layer.updates": torch.tensor(2**32 - 1, dtype=torch.int64),
        "optimiser.mean": torch.tensor([0.1, -0.0, float("nan")], dtype=torch.float32),
        "optimiser.half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "empty": torch.zeros(0, 3, dtype=torch.int8),
    }


def save(path: Path, fmt: Literal["2bit", "dense"] = "2bit") -> str:
    return save_checkpoint(path, state(), CONFIG, 7, fmt, COLUMNS)


def rewrite(
    path: Path, tensors: dict[str, torch.Tensor] | None, metadata: dict[str, str] | None = None
) -> None:
    """Write the file again with other tensors or metadata and a seal that fits, as other software would."""
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    found: dict[str, str] = header["__metadata__"] | (metadata or {})
    found.pop("seal")
    found["seal"] = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
    path.write_bytes(safetensors.torch.save(tensors or safetensors.torch.load(data), found))


@pytest.mark.clause("ARB-TRAIN-004", "ARB-PACK-007")
@pytest.mark.parametrize("fmt", ["2bit", "dense"])
def test_round_trip(tmp_path: Path, fmt: Literal["2bit", "dense"]) -> None:
    """All comes back, the same from both formats."""
    path = tmp_path / "new folder" / "a.safetensors"
    digest = save(path, fmt)
    found = load_checkpoint(path)
    assert (found.config, found.step, found.digest) == (CONFIG, 7, digest)
    assert found.digest == state_hash(state()) == state_hash(found.tensors)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.clause("ARB-PACK-005")
def test_dense_is_smaller(tmp_path: Path) -> None:
    """The dense file holds five trits a byte under the same names."""
    codes = torch.full((4, 100), 85, dtype=torch.uint8)
    for fmt in ("2bit", "dense"):
        save_checkpoint(tmp_path / fmt, {"codes": codes}, {}, 0, fmt, {"codes": 400})
    assert safetensors.torch.load((tmp_path / "dense").read_bytes())["codes"].shape == (4, 80)
    assert safetensors.torch.load((tmp_path / "2bit").read_bytes())["codes"].shape == (4, 100)


@pytest.mark.clause("ARB-STATE-008")
def test_state_hash_is_the_specified_bytes() -> None:
    """Byte by byte, for two tensors given in the wrong order."""
    tensors = {"b": torch.tensor([[1, -2]], dtype=torch.int16), "a": torch.tensor(3, dtype=torch.int64)}
    expected = b"a\0int64\0" + bytes(8) + (3).to_bytes(8, "little")
    sizes = (2).to_bytes(8, "little") + (1).to_bytes(8, "little") + (2).to_bytes(8, "little")
    expected += b"b\0int16\0" + sizes + b"\x01\x00\xfe\xff"
    assert state_hash(tensors) == hashlib.sha256(expected).hexdigest()


@pytest.mark.clause("ARB-STATE-008")
def test_state_hash_sees_values_not_memory() -> None:
    """The layout in memory does not count; name, dtype, shape and every element do."""
    square = torch.arange(6, dtype=torch.int8).reshape(2, 3)
    assert state_hash({"a": square.T.contiguous().T}) == state_hash({"a": square})
    others = [
        {"b": square},
        {"a": square.to(torch.int16)},
        {"a": square.reshape(3, 2)},
        {"a": square ^ 1},
        {"a": square.T},
    ]
    assert len({state_hash(tensors) for tensors in [{"a": square}, *others]}) == 6


def test_shared_and_strided_tensors(tmp_path: Path) -> None:
    """Views of one storage, which safetensors alone would refuse, are saved as the values that they show."""
    base = torch.arange(12, dtype=torch.int8).reshape(3, 4)
    digest = save_checkpoint(tmp_path / "a", {"x": base, "y": base.T, "z": base[1]}, {}, 0)
    assert load_checkpoint(tmp_path / "a").digest == digest


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize("fmt", ["2bit", "dense"])
def test_every_truncation_is_refused(tmp_path: Path, fmt: Literal["2bit", "dense"]) -> None:
    """A file that lost any number of its last bytes."""
    path = tmp_path / "a"
    save(path, fmt)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="truncated"):
            load_checkpoint(path)


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize("fmt", ["2bit", "dense"])
@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80])
def test_every_altered_byte_is_refused(tmp_path: Path, fmt: Literal["2bit", "dense"], mask: int) -> None:
    """A flipped bit in any byte: header, configuration, step, hash, codes or accumulators."""
    path = tmp_path / "a"
    save(path, fmt)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :])
        with pytest.raises(CheckpointError):
            load_checkpoint(path)


@pytest.mark.clause("ARB-TRAIN-004")
def test_altered_parts_are_named(tmp_path: Path) -> None:
    """The message says which part does not fit."""
    save(tmp_path / "a")
    changed = state()
    changed["layer.t_accum"][0, 1] += 1
    rewrite(tmp_path / "a", changed)
    with pytest.raises(CheckpointError, match="altered: the tensors hash to"):
        load_checkpoint(tmp_path / "a")
    save(tmp_path / "b")
    data = (tmp_path / "b").read_bytes()
    (tmp_path / "b").write_bytes(data.replace(b'"step":"7"', b'"step":"8"'))
    with pytest.raises(CheckpointError, match="altered: the metadata"):
        load_checkpoint(tmp_path / "b")
    (tmp_path / "b").write_bytes(data + b"x")
    with pytest.raises(CheckpointError, match="does not fit"):
        load_checkpoint(tmp_path / "b")


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"format_version": "2"}, "format_version is '2', expected '1'; it was written by a newer arbitor"),
        ({"specification": "3"}, "specification is '3', expected '2'; it was written by a newer arbitor"),
        ({"format_version": "0"}, "format_version is '0', expected '1'; it was written by an older arbitor"),
        ({"specification": "1"}, "specification is '1', expected '2'; it was written by an older arbitor"),
        ({"format_version": "?"}, r"format_version is '\?', expected '1'$"),
        ({"format_version": ""}, "format_version is '', expected '1'$"),
        ({"specification": "9" * 5000}, r"specification is '9+\.\.\.9+', expected '2'$"),
        ({"format": "other"}, "not an arbitor checkpoint: format is 'other'"),
        ({"config": "{"}, "metadata cannot be read"),
        ({"config": "[]"}, "metadata cannot be read"),
        ({"step": "-1"}, "metadata cannot be read"),
        ({"codes": "3bit"}, "metadata cannot be read"),
    ],
)
def test_other_metadata(tmp_path: Path, metadata: dict[str, str], message: str) -> None:
    """Older and newer versions, other formats and metadata that make no sense."""
    save(tmp_path / "a")
    rewrite(tmp_path / "a", None, metadata)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "a")


FOREIGN = {
    "text": b"To be, or not to be, that is the question.",
    "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}",
    "json that is no header": (9).to_bytes(8, "little") + b'{"a": []}',
    "deep json": (200_001).to_bytes(8, "little") + b'{"a":' + b"[" * 199_996,
}


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize("kind", FOREIGN)
def test_files_that_are_not_safetensors(tmp_path: Path, kind: str) -> None:
    """Other files are named as what they are not, with no other exception."""
    (tmp_path / "a").write_bytes(FOREIGN[kind])
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_checkpoint(tmp_path / "a")


@pytest.mark.clause("ARB-TRAIN-004")
def test_files_that_are_not_checkpoints(tmp_path: Path) -> None:
    """A good safetensors file of somebody else, no file, a folder; the error names the path."""
    (tmp_path / "a").write_bytes(safetensors.torch.save({"w": torch.zeros(3)}))
    with pytest.raises(
        CheckpointError, match="a: a safetensors file, but not an arbitor checkpoint: format is None"
    ):
        load_checkpoint(tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"gone: there is no such file"):
        load_checkpoint(tmp_path / "gone")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path)


@pytest.mark.clause("ARB-PACK-003", "ARB-STATE-006")
def test_illegal_codes_are_refused_by_both_sides(tmp_path: Path) -> None:
    """Code 3 neither leaves nor enters; the old file stays."""
    save(tmp_path / "a")
    before = (tmp_path / "a").read_bytes()
    bad = state()
    bad["layer.codes"][1, 0] = 0b00110000
    with pytest.raises(ValueError, match=r"layer.codes\[1, 0\] is 0x30, expected no field with code 3"):
        save_checkpoint(tmp_path / "a", bad, CONFIG, 8)
    assert (tmp_path / "a").read_bytes() == before
    rewrite(tmp_path / "a", bad, {"digest": state_hash(bad)})
    with pytest.raises(CheckpointError, match=r"layer.codes\[1, 0\] is 0x30"):
        load_checkpoint(tmp_path / "a")


@pytest.mark.clause("ARB-PACK-006")
@pytest.mark.parametrize("byte", [243, 255])
def test_illegal_dense_bytes(tmp_path: Path, byte: int) -> None:
    """Dense bytes 243..255 are refused on loading."""
    save(tmp_path / "a", "dense")
    stored = safetensors.torch.load((tmp_path / "a").read_bytes())
    stored["layer.codes"][1, 0] = byte
    rewrite(tmp_path / "a", stored)
    with pytest.raises(CheckpointError, match=r"'layer\.codes' is illegal"):
        load_checkpoint(tmp_path / "a")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fmt": "3bit"}, "format '3bit', expected"),
        ({"step": -1}, "step -1, expected 0 or more"),
        ({"fmt": "dense", "columns": {"codes": 8}}, "no column count for 'layer.codes'"),
        (
            {"fmt": "dense", "columns": {"codes": 8, "layer.codes": 9}},
            "2 bytes a row, expected 3 for 9 columns",
        ),
        ({"tensors": {"codes": torch.zeros(4, dtype=torch.uint8)}}, r"shape \[4\], expected two dimensions"),
        ({"tensors": {"__metadata__": torch.zeros(4)}}, "reserved"),
        ({"config": {"gain": float("nan")}}, "JSON"),
    ],
)
def test_arguments_that_are_refused(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    """Nothing is written for arguments that make no checkpoint."""
    everything: dict[str, Any] = {"tensors": state(), "config": CONFIG, "step": 0} | arguments
    with pytest.raises(ValueError, match=message):
        save_checkpoint(tmp_path / "a", **everything)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.clause("ARB-STATE-006")
def test_codes_of_another_dtype(tmp_path: Path) -> None:
    """A `TypeError` for the dtype."""
    with pytest.raises(TypeError, match=r"codes is torch.int8, expected torch.uint8"):
        save_checkpoint(tmp_path / "a", {"codes": torch.zeros(1, 1, dtype=torch.int8)}, {}, 0)


@pytest.mark.clause("ARB-TRAIN-004")
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_killed_write_leaves_the_old_file(tmp_path: Path, call: str) -> None:
    """A process that is killed with all bytes written, before the move, has changed nothing."""
    path = tmp_path / "a"
    digest = save(path)
    script = (
        "import os, signal, sys, pathlib\n"
        "from arbitor.kernels.writing import write_whole\n"
        f"os.{call} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_whole(pathlib.Path(sys.argv[1]), b'new')\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script, str(path)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert load_checkpoint(path).digest == digest


@pytest.mark.clause("ARB-TRAIN-004")
def test_failed_write_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk leaves the old file and no other."""
    path = tmp_path / "a"
    save(path)
    monkeypatch.setattr("os.fsync", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    monkeypatch.undo()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
    assert load_checkpoint(path).step == 7
