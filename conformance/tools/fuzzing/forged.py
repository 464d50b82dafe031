"""A valid file of every format that arbitor reads, and the same with other content and seals that fit.

What a seal covers is no protection from somebody who makes the seal: a `Format` rebuilds its file from any
tree of JSON values, so that what stands behind the seals is tried too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from arbitor.checkpoint import save_checkpoint, state_hash
from arbitor.cli import main
from arbitor.conformance.draw.strategies import example
from arbitor.conformance.judge.archive import MANIFEST, Failure, _zipped, write
from arbitor.conformance.judge.archived import _members
from arbitor.conformance.judge.cases import Case, FailedCall, FailedRefusal, FailedSteps
from arbitor.conformance.judge.target import call
from arbitor.conformance.tools.fuzzing.forged_records import ON_CPU, Files, Format, records
from arbitor.judge.seal import sealed
from arbitor.kernels.registry import select
from arbitor.main import ARBConfig, ARBModel

OPTIONS: dict[str, Any] = {
    "d_model": 8, "layers": 1, "heads": 1, "window": None, "group_size": 12, "seed": 3, "ctx": 8,
    "preserve_state": False, "baseline": None, "accum_threshold": 12, "experts": 0, "top_k": 2,
    "max_moe_iters": 1,
}  # fmt: skip


def formats(folder: Path) -> dict[str, Format]:
    """All formats by name; `folder` is one to work in."""
    found = [
        _checkpoint(folder, "2bit"),
        _checkpoint(folder, "dense"),
        *(_artifact(folder, case) for case in cases()),
        *records(),
    ]
    return {each.name: each for each in found}


# -- checkpoints


def _checkpoint(folder: Path, fmt: Any) -> Format:
    state = ARBModel(ARBConfig(8, 1, 1, group_size=12), backend="torch").state_dict()
    widths = {name: state[name.replace("codes", "t_accum")].shape[1] for name in state if "codes" in name}
    save_checkpoint(folder / "c", state, {"options": OPTIONS, "corpus": {"name": "text"}}, 4, fmt, widths)
    data = (folder / "c").read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header, elements = json.loads(data[8:end]), data[end:]
    metadata = header.pop("__metadata__")
    inner = {name: json.loads(metadata.pop(name)) for name in ("config", "columns")}
    tree = {"header": header, "metadata": metadata, **inner}

    def build(tree: Any) -> Files:
        outer = dict(tree["metadata"]) | {name: json.dumps(tree[name]) for name in ("config", "columns")}
        outer.pop("seal", None)
        plain = json.dumps(tree["header"] | {"__metadata__": {"format": "pt"}}).encode()
        with contextlib.suppress(Exception):  # the digest of what is there, so that what comes after is tried
            found = safetensors.torch.load(len(plain).to_bytes(8, "little") + plain + elements)
            outer["digest"] = state_hash(found) if fmt == "2bit" and "digest" in outer else outer["digest"]
        seal = hashlib.sha256(json.dumps(outer, sort_keys=True).encode()).hexdigest()
        whole = json.dumps(tree["header"] | {"__metadata__": outer | {"seal": seal}}).encode()
        return {"checkpoint.safetensors": len(whole).to_bytes(8, "little") + whole + elements}

    def read(where: Path) -> int:
        path = str(where / "checkpoint.safetensors")
        return main(["inspect", path]) or main(["sample", path, "--bytes", "2", *ON_CPU])

    return Format(f"checkpoint-{fmt}", tree, build, read)


# -- artifacts


def cases() -> list[Case]:
    """A failed call in a layout of its own, a refusal, and steps."""
    arguments = example("weight_gradient", 0)
    right = call(select("torch"), "weight_gradient", dict(arguments))
    train: dict[str, Any] = {
        "uses": 1,
        "scale": 0,
        "signal": "loss",
        "poison": None,
        "gain": None,
        "scale_gain": None,
    }
    steps: list[dict[str, Any]] = [
        {"do": "configure", "accum_threshold": 2, "rule": "sign"},
        {"do": "train", "parts": [[0, 1, 0]], **train},
        {"do": "save", "format": "dense"},
        {"do": "resume"},
    ]
    size = {"vocabulary": 2, "width": 4, "group_size": 4, "e_span": 0, "seed": 0, "updates": 0}
    strides = {"strides": {"q_x": [[1, len(arguments["q_x"])], 3]}}
    illegal = {"trits": torch.tensor([[0, 2]], dtype=torch.int8)}
    return [
        FailedCall("weight_gradient", arguments, "torch", "cpu", right, right, strides),
        FailedRefusal("pack", illegal, "ValueError", [2], "x", "cpu"),
        FailedSteps(size, steps, "torch", "cpu", ["0" * 64]),
    ]


def _artifact(folder: Path, case: Case) -> Format:
    members, manifest = parts_of(write(case, Failure("t.py::test_x", ["ARB-X"], "said", "again"), folder))

    def build(tree: Any) -> Files:
        return {"case.arb": resealed(members, tree)}

    def read(where: Path) -> int:
        return main(["replay", str(where / "case.arb"), *ON_CPU])

    return Format(f"artifact-{manifest['kind']}", manifest, build, read)


def parts_of(path: Path) -> tuple[Files, dict[str, Any]]:
    """The members of an artifact but its manifest, and that."""
    members = _members(path.read_bytes())
    return members, json.loads(members.pop(MANIFEST))


def resealed(members: Mapping[str, bytes], manifest: Any) -> bytes:
    """The archive of these members and this manifest, sealed anew."""
    text = json.dumps(sealed(manifest) if isinstance(manifest, dict) else manifest)
    return _zipped(dict(members) | {MANIFEST: text.encode()})
